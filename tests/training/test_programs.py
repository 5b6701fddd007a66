import threading

import pytest

from cifar_flax.training.programs import Programs


def test_programs_are_compiled_once_and_before_they_are_asked_for():
    compiled, all_done = [], threading.Event()

    def compile_program(key):
        compiled.append(key)
        if len(compiled) == 3:
            all_done.set()
        return lambda: key

    programs = Programs(compile_program)
    programs.compile_ahead(["a", "b", "c", "a"])
    assert all_done.wait(60)
    assert [programs.get(key)() for key in "abca"] == ["a", "b", "c", "a"]
    assert programs.get("d")() == "d"
    assert sorted(compiled) == ["a", "b", "c", "d"]


def test_waiting_for_a_program_counts_as_compilation():
    go = threading.Event()
    programs = Programs(lambda key: go.wait(60))
    programs.compile_ahead(["a"])
    threading.Timer(0.05, go.set).start()
    assert programs.get("a")
    assert programs.waited > 0


def test_an_error_reaches_the_caller_who_asks():
    def fail(key):
        raise ValueError(f"no program {key}")

    programs = Programs(fail)
    programs.compile_ahead(["a"])
    with pytest.raises(ValueError, match="no program a"):
        programs.get("a")


def test_who_waits_for_a_program_may_stop_waiting():
    go = threading.Event()
    programs = Programs(lambda key: go.wait(60))

    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        programs.get("a", check)
    go.set()
    assert programs.get("a", check=lambda: None)
