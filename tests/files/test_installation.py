from cifar_flax.files import installation
from cifar_flax.files.installation import cache_folder


def test_outside_of_a_checkout_the_packages_of_an_extra_are_named(monkeypatch, tmp_path):
    assert installation.install_command("postgresql") == "pip install -c constraints.txt -e '.[postgresql]'"
    monkeypatch.setattr(installation, "_ROOT", tmp_path)
    assert "'psycopg[binary]>=" in installation.install_command("postgresql")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("CIFAR_FLAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cifar_flax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "cifar_flax"
