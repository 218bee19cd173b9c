"""While large libraries are imported nothing is collected, and later nothing of it is looked through."""

import gc

import pytest

from mmsrarec.engines import collector


def test_nothing_is_collected_within_and_what_is_there_stays_untouched() -> None:
    phases, before = [], gc.get_freeze_count()

    def note(phase: str, _: dict) -> None:
        phases.append(phase)

    gc.callbacks.append(note)
    try:
        with collector.paused():
            made = [[number] for number in range(10_000)]
            assert not phases
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(made)


def test_the_collector_is_as_it_was_whatever_happens() -> None:
    with pytest.raises(ImportError), collector.paused():
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with collector.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
