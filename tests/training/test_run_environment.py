import sys

from cifar_flax.training.run_environment import describe_environment


def test_the_command_is_kept_without_the_password_in_it(monkeypatch):
    command = ["search.py", "--trials=3", "--storage=postgresql://me:se@cret@host:5432/db?sslmode=require", "--note=a:b@c"]
    monkeypatch.setattr(sys, "argv", command)
    kept = describe_environment()["command"]
    assert kept[1:] == [*command[:2], "--storage=postgresql://me:***@host:5432/db?sslmode=require", command[3]]
