"""The list of trials that all processes of a search share: who runs which, and that each of them ends once.

A search of N trials has N slots. What Optuna calls a trial is an attempt at a slot, made for it in one transaction and numbered
in the order of these; the attempt that counts is the first that has not failed. An attempt fails when its process has died or
when two processes made one for the same slot; that is final, so that a slot whose attempts have all failed needs another, and
no slot is ever finished twice. Nothing else decides, so that a process may be killed anywhere.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import optuna
from absl import logging
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_flax.errors import UserError
from cifar_flax.files.redact import redact_passwords
from cifar_flax.search.database import open_storage, opening_explained, reason
from cifar_flax.search.space import Choice, IntRange, LogUniform, Space

SILENT_BEATS = 6  # heartbeats that a process may miss before it is taken for dead
UNPRUNED_TRIALS = 5  # that must have come to their end before any is pruned
SLOT, WHY = "slot", "why"  # attributes of an attempt: what it is at, and why it was not finished as it should
FINGERPRINT = "search"  # attribute of the study: what is searched
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats, and the pictures
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """The trials of a search, in a database.

    Attributes:
      optuna: the study as Optuna has it.
      trials: how many slots there are.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: Space,
        strategy: str,
        trials: int,
        seed: int = 0,
        prune_from: int | None = None,
        fingerprint: dict[str, str] | None = None,
        heartbeat: int = 15,
    ) -> None:
        """Opens the study, making it if it is not there.

        Args:
          url: SQLAlchemy's, of the database.
          name: of the study in it.
          space: what is varied.
          strategy: grid, random or tpe.
          trials: slots; of a grid at most as many as it has points.
          seed: of random and tpe. What a slot is given depends on it and the slot's number; for tpe on finished trials too.
          prune_from: epoch from which on a trial is given up that is worse than the median of those before; None for never.
          fingerprint: what else makes this search the same as another: {name: value}.
          heartbeat: seconds between signs of life of a running trial; all processes must agree on when another is dead.

        Raises:
          UserError: the database cannot be opened, or the study there is of another search.
        """
        self._storage = open_storage(url, heartbeat, grace=SILENT_BEATS * heartbeat)
        self._space, self._strategy, self._seed, self._heartbeat = space, strategy, seed, heartbeat
        self._points = space.grid() if strategy == "grid" else None
        self.trials = trials
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if prune_from is not None:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=prune_from)
        ours = {"strategy": strategy, "heartbeat": str(heartbeat), **space.fingerprint(), **(fingerprint or {})}
        with opening_explained(url):
            self.optuna = optuna.create_study(
                storage=self._storage, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
            )
            self._check_same(ours, url)

    def claim(self, in_use: Callable[[int], bool] = lambda slot: False) -> Trial | None:
        """Makes one of the trials that nobody runs this process' own, and draws its `params`; None if there is none now.

        Args:
          in_use: whether a process that was taken for dead is still at work in a slot's folder; the slot is left alone then.
        """
        fail_stale_trials(self.optuna)
        while True:
            attempts = self._attempts()
            live = {slot for slot, tries in attempts.items() if any(t.state is not TrialState.FAIL for t in tries)}
            tried = [trial for tries in attempts.values() for trial in tries]
            waiting = [trial for trial in tried if trial.state is TrialState.WAITING and not in_use(slot_of(trial))]
            for trial in sorted(waiting, key=slot_of):
                with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process was faster, or took us for dead
                    if self._take(trial):
                        return self._draw(trial)
            free = (slot for slot in range(self.trials) if slot not in live and not in_use(slot))
            if (slot := next(free, None)) is not None:
                self._enqueue(slot, attempts.get(slot, []))
            elif not waiting:
                return None

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """A context in which the other processes are told that this one still runs `trial`."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self._heartbeat):
                try:
                    self._storage.record_heartbeat(trial._trial_id)
                except Exception as e:  # of any database; the next beat may get through
                    logging.warning("no heartbeat: %s", reason(e))
            self._storage.remove_session()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def give_back(self, trial: Trial) -> None:
        """Leaves a trial for whoever claims it next, as when this process is told to stop."""
        # It may have been taken from a process that was silent for too long, or will be, where the database has gone away.
        with suppress(optuna.exceptions.UpdateFinishedTrialError, optuna.exceptions.StorageInternalError):
            self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def finish(self, trial: Trial, value: float | None, **attributes: Any) -> bool:
        """Ends a trial with its value, or, without one, before its time; False if it was taken away from this process."""
        state = TrialState.COMPLETE if value is not None else TrialState.PRUNED
        try:
            for name, attribute in attributes.items():
                trial.set_user_attr(name, attribute)
            return self.optuna.tell(trial, value, state, skip_if_finished=True).state is state
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def finished(self) -> list[FrozenTrial]:
        """The trials that have ended, by slot."""
        attempts = self._attempts()
        return [trial for slot in sorted(attempts) for trial in attempts[slot] if trial.state in FINISHED]

    def unfinished(self) -> list[int]:
        """The slots of the others."""
        return sorted(set(range(self.trials)) - set(map(slot_of, self.finished())))

    def reported(self, trial: Trial) -> set[int]:
        """The epochs after which the trial, or a process that ran it before, has reported a value."""
        return set(self._storage.get_trial(trial._trial_id).intermediate_values)

    def _attempts(self) -> dict[int, list[FrozenTrial]]:
        """All attempts at each slot, in the order in which they were made."""
        attempts: dict[int, list[FrozenTrial]] = {}
        for trial in sorted(self.optuna.get_trials(deepcopy=False), key=lambda t: t.number):
            slot = trial.user_attrs.get(SLOT)
            if slot is not None and slot < self.trials:
                attempts.setdefault(slot, []).append(trial)
        return attempts

    def _enqueue(self, slot: int, before: list[FrozenTrial]) -> None:
        """Makes another attempt at a slot, with what one before it was given, if that was all drawn: its run may be begun."""
        params = next((t.params for t in reversed(before) if t.params.keys() == self._space.domains.keys()), {})
        self.optuna.enqueue_trial(self._points[slot] if self._points else params, user_attrs={SLOT: slot})

    def _take(self, trial: FrozenTrial) -> bool:
        # A sign of life before it runs: of a running trial without one nobody could tell that its process has died.
        self._storage.record_heartbeat(trial._trial_id)
        if not self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
            return False
        earlier = [t for t in self._attempts()[trial.user_attrs[SLOT]] if t.number < trial.number]
        if any(t.state is not TrialState.FAIL for t in earlier):
            self._storage.set_trial_user_attr(trial._trial_id, WHY, "two processes made this trial at once")
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            return False
        return True

    def _draw(self, trial: FrozenTrial) -> Trial:
        seed = int(np.random.SeedSequence((self._seed, slot_of(trial))).generate_state(1)[0])
        tpe = self._strategy == "tpe"
        self.optuna.sampler = optuna.samplers.TPESampler(seed=seed) if tpe else optuna.samplers.RandomSampler(seed)
        drawn = Trial(self.optuna, trial._trial_id)
        for name, domain in self._space.domains.items():
            if isinstance(domain, Choice):
                drawn.suggest_categorical(name, domain.values)
            elif isinstance(domain, IntRange):
                drawn.suggest_int(name, domain.low, domain.high, step=domain.step)
            else:
                drawn.suggest_float(name, domain.low, domain.high, log=isinstance(domain, LogUniform))
        return drawn

    def _check_same(self, fingerprint: dict[str, str], url: str) -> None:
        if FINGERPRINT not in self.optuna.user_attrs:
            self.optuna.set_user_attr(FINGERPRINT, fingerprint)
        saved = self.optuna.user_attrs[FINGERPRINT]  # read back: another process may have been first
        if changed := [name for name in {**saved, **fingerprint} if saved.get(name) != fingerprint.get(name)]:
            lines = "\n".join(f"  {name}: {saved.get(name)} there, {fingerprint.get(name)} now" for name in changed)
            there = f"study {self.optuna.study_name} in {redact_passwords(url)}"
            raise UserError(f"{there} is another search; choose another --study or --workdir\n{lines}")


def slot_of(trial: Trial | FrozenTrial) -> int:
    """Which of the search's trials this is an attempt at, counted from 0."""
    return int(trial.user_attrs[SLOT])
