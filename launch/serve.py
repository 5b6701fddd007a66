"""Serves a page on which pictures are classified, and its API: python launch/serve.py --run=runs/wide."""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

from absl import flags

from cifar_flax.errors import UserError
from cifar_flax.runtime import app
from cifar_flax.runtime.flag_values import Fit
from cifar_flax.serving.flags import define_network_flags, network_from_flags

_HOST = flags.DEFINE_string("host", "127.0.0.1", "address to listen on; 0.0.0.0 for all of this machine's")
_PORT = flags.DEFINE_integer("port", 8000, "port to listen on; 0 for any free one", lower_bound=0, upper_bound=65535)
_ALLOWED_HOSTS = flags.DEFINE_list("allowed_hosts", [], "names by which a proxy leads here, such as pictures.example.org")
_ALLOW_PRIVATE = flags.DEFINE_bool("allow_private", False, "fetch from addresses in private networks too")
define_network_flags()

CONNECTIONS = 200


def main() -> None:
    """Serves until SIGTERM or Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # until there are requests to finish, they just end it
    listener = _bind(_HOST.value, _PORT.value)  # first: a port that is taken should not wait for JAX
    host, port = listener.getsockname()[:2]
    from cifar_flax.serving.web.sites import Hosts

    hosts = Hosts.of_server(_HOST.value, host, _ALLOWED_HOSTS.value)
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache

    enable_persistent_cache()
    network = network_from_flags()

    from cifar_flax.data.pictures.isolated import IsolatedDecoder
    from cifar_flax.serving.web.app import create_app
    from cifar_flax.serving.web.heat_map import Explainer
    from cifar_flax.serving.web.options import Options
    from cifar_flax.serving.web.server import Server

    options = Options(Fit(flags.FLAGS.fit), flags.FLAGS.flip, allow_private=_ALLOW_PRIVATE.value, hosts=hosts)
    explainer = Explainer(network)
    application = create_app(network, IsolatedDecoder(options.decoding), explainer, options)
    server = Server(application, listener, options.threads, options.upload_bytes, CONNECTIONS)
    logging.getLogger("waitress").setLevel(logging.ERROR)  # its warnings are one a request or a connection that has to wait
    _on_signals(server.stop)
    print(f"ready on http://{f'[{host}]' if ':' in host else host}:{port}/ (Ctrl-C stops it)", flush=True)
    explainer.compile_in_background(options.flip)
    if server.connections < CONNECTIONS:
        message = f"at most {server.connections} connections at a time: this process may open few files (ulimit -n)"
        sys.stderr.write(f"{message}\n")
    server.run()


def _on_signals(stop: Callable[[], None]) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second time it does not wait for requests
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except UnicodeError:  # a part of the name is empty, or longer than 63 characters
        raise UserError(f"--host={host}: is no name and no address of a machine; choose another") from None
    except OSError as e:
        raise UserError(f"--host={host} --port={port}: cannot listen there ({e.strerror}); choose another") from None
    return listener


if __name__ == "__main__":
    app.run(main)
