from cifar_flax.files import installation


def test_outside_of_a_checkout_the_packages_of_an_extra_are_named(monkeypatch, tmp_path):
    assert installation.install_command("postgresql") == "pip install -c constraints.txt -e '.[postgresql]'"
    monkeypatch.setattr(installation, "_ROOT", tmp_path)
    assert "'psycopg[binary]>=" in installation.install_command("postgresql")
