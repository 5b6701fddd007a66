"""The list of trials that all processes of a search share, on Optuna's queue and heartbeats.

A search of N trials has the indices 0 to N - 1. Each Optuna trial is an attempt at one index, its user attribute. An attempt
fails when its process dies or is told to stop; another one with the same values is then queued. Where two processes queue an
index at the same moment, the later attempt fails at once. So each index finishes once, whatever is killed. An attempt knows how
often those before it have died, so that its objective may give an index up.
"""

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_flax.errors import UserError, WorkdirLocked
from cifar_flax.files.redact import redact_passwords
from cifar_flax.search.space import Choice, Domain, IntRange, LogUniform, Space, Uniform
from cifar_flax.search.storage import open_storage, opening_explained

MISSED_HEARTBEATS = 6  # after so many a process is taken for dead
UNPRUNED_TRIALS = 5  # complete trials before any is pruned
TRIAL_INDEX = "trial_index"  # user attribute of a trial
LET_GO = "let go"  # user attribute of an attempt that a living process has ended
PROGRESS = "progress"  # user attribute of an attempt: a list of numbers, the higher the further it has come
DEATHS = "deaths"  # user attribute of an attempt: earlier ones whose process died without coming further
FINGERPRINT = "search"  # user attribute of the study
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats, and the plots
optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed attempt is no news: its exception is raised, or it is retried


class Superfluous(Exception):  # no error
    """Another process has queued the same trial at the same moment."""


class Study:
    """The trials of a search, in a database.

    Attributes:
      optuna: Optuna's study.
      trials: number of trials.
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
        """Opens the study, or creates it.

        Args:
          url: SQLAlchemy URL of the database.
          name: name of the study in the database.
          space: what is varied.
          strategy: grid, random or tpe.
          trials: number of trials; for a grid at most its number of points.
          seed: seed of random and tpe. It and a trial's index determine its values, for tpe together with the finished trials.
          prune_from: epoch from which on trials worse than the median of earlier ones are pruned; None for never.
          fingerprint: {name: value} that must be the same in all processes of the search.
          heartbeat: seconds between the heartbeats of a running trial, the same for all processes of the search.

        Raises:
          UserError: the database cannot be opened, or the study there belongs to another search.
        """
        storage = open_storage(url, heartbeat, grace=MISSED_HEARTBEATS * heartbeat)
        self._space, self._strategy, self._seed = space, strategy, seed
        self._points = space.grid() if strategy == "grid" else None
        self.trials = trials
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if prune_from is not None:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=prune_from)
        mine = {"strategy": strategy, "heartbeat": str(heartbeat), **space.fingerprint(), **(fingerprint or {})}
        with opening_explained(url):
            self.optuna = optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
            )
            self._check_same(mine, url)

    def run(
        self,
        objective: Callable[[Trial], float],
        in_use: Callable[[int], bool] = lambda index: False,
        wait: Callable[[list[int]], None] = lambda unfinished: None,
        after_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    ) -> None:
        """Runs trials until all of the study's are finished, by this process or by others.

        Args:
          objective: returns the score of a trial with all its params. What it raises leaves the trial to be run again, but for
            `optuna.TrialPruned`, which finishes it.
          in_use: whether a process that was taken for dead still works in a trial's folder; the trial is left alone then.
          wait: called with the indices of the unfinished trials, again and again while there is none to run here.
          after_trial: called with each trial that this process finishes.
        """
        while unfinished := self.unfinished():
            index = self._next(in_use)
            if index is None:
                wait(unfinished)
            else:
                self._run(index, objective, after_trial)

    def finished(self) -> list[FrozenTrial]:
        """The finished trials, by index."""
        attempts = self._attempts()
        return [trial for index in range(self.trials) for trial in attempts[index] if trial.state in FINISHED]

    def unfinished(self) -> list[int]:
        """The indices of the other trials."""
        return sorted(set(range(self.trials)) - set(map(trial_index, self.finished())))

    def _attempts(self) -> defaultdict[int | None, list[FrozenTrial]]:
        """The attempts at each index, in the order in which they were queued."""
        attempts = defaultdict(list)
        for trial in self.optuna.get_trials(deepcopy=False):
            attempts[trial.user_attrs.get(TRIAL_INDEX)].append(trial)
        return attempts

    def _next(self, in_use: Callable[[int], bool]) -> int | None:
        """The first index that nobody runs or has finished, with an attempt at it in the queue; None if there is none."""
        fail_stale_trials(self.optuna)
        all_attempts = self._attempts()
        for index in range(self.trials):
            attempts = all_attempts[index]
            states = {trial.state for trial in attempts}
            if states & {TrialState.RUNNING, *FINISHED} or in_use(index):
                continue
            if TrialState.WAITING not in states:
                # Values that were drawn halfway are drawn again, from the beginning of their random numbers.
                values = [trial.params for trial in attempts if trial.params.keys() == self._space.domains.keys()]
                values.append(self._points[index] if self._points else {})
                self.optuna.enqueue_trial(values[0], user_attrs={TRIAL_INDEX: index})
            return index
        return None

    def _run(self, index: int, objective: Callable[[Trial], float], after_trial: Callable[[FrozenTrial], None]) -> None:
        """Runs the first trial in the queue, which most likely has this index."""
        error: Exception | None = None

        def attempt(trial: Trial) -> float:
            nonlocal error
            try:
                self._check_needed(trial)
                self.optuna.sampler = self._sampler(trial_index(trial))
                for name, domain in self._space.domains.items():
                    _suggest(trial, name, domain)
                trial.set_user_attr(DEATHS, self._deaths(trial))
                return objective(trial)
            except BaseException as e:
                error = e if isinstance(e, Exception) and not isinstance(e, Superfluous) else None
                with contextlib.suppress(Exception):  # whatever the database has to say, after what it may have raised just now
                    trial.set_user_attr(LET_GO, True)
                raise

        def report(_: optuna.Study, trial: FrozenTrial) -> None:
            if trial.state in FINISHED:
                after_trial(trial)

        self.optuna.sampler = self._sampler(index)  # TPE draws most values before the objective is called
        try:
            self.optuna.optimize(attempt, n_trials=1, catch=(Superfluous, WorkdirLocked), callbacks=[report])
        except (ValueError, UnboundLocalError) as e:
            # Optuna raises these in place of the objective's error if it cannot end the trial. ValueError: the trial has failed
            # already; this process was silent for too long, as when the machine was asleep, and another one has taken it over.
            # UnboundLocalError: the database has gone away, as the error's context says.
            if not isinstance(error, optuna.exceptions.UpdateFinishedTrialError):
                raise error or e.__context__ or e  # noqa: B904 # `from` would hide the database's own message
            print(f"trial {index}: another process has taken it over", flush=True)

    def _check_needed(self, trial: Trial) -> None:
        """Raises Superfluous unless the trial is the first attempt at its index that has not failed."""
        index = trial.user_attrs.get(TRIAL_INDEX)
        earlier = (t for t in self._attempts()[index] if t.number < trial.number)
        if index is None or index >= self.trials or any(t.state is not TrialState.FAIL for t in earlier):
            raise Superfluous

    def _deaths(self, trial: Trial) -> int:
        """Number of attempts at the index of a trial that have died since one of them came further than those before."""
        furthest: list[int] = []
        deaths = 0
        for attempt in self._attempts()[trial_index(trial)]:
            if attempt.state is TrialState.FAIL and not attempt.user_attrs.get(LET_GO):
                progress = attempt.user_attrs.get(PROGRESS, [])
                deaths = 1 if progress > furthest else deaths + 1
                furthest = max(furthest, progress)
        return deaths

    def _sampler(self, index: int) -> BaseSampler:
        seed = int(np.random.SeedSequence((self._seed, index)).generate_state(1)[0])
        return TPESampler(seed=seed) if self._strategy == "tpe" else RandomSampler(seed)

    def _check_same(self, fingerprint: dict[str, str], url: str) -> None:
        if FINGERPRINT not in self.optuna.user_attrs:
            self.optuna.set_user_attr(FINGERPRINT, fingerprint)
        saved = self.optuna.user_attrs[FINGERPRINT]  # read back: another process may have been first
        if changed := [name for name in {**saved, **fingerprint} if saved.get(name) != fingerprint.get(name)]:
            lines = "\n".join(f"  {name}: {saved.get(name)} there, {fingerprint.get(name)} now" for name in changed)
            there = f"study {self.optuna.study_name} in {redact_passwords(url)}"
            raise UserError(f"{there} is another search; choose another --study or --workdir\n{lines}")


def trial_index(trial: Trial | FrozenTrial) -> int:
    """Number of the trial in its search, counted from 0."""
    return int(trial.user_attrs[TRIAL_INDEX])


def _suggest(trial: Trial, name: str, domain: Domain) -> None:
    match domain:
        case Choice(values):
            trial.suggest_categorical(name, values)
        case IntRange(low, high, step):
            trial.suggest_int(name, low, high, step=step)
        case Uniform(low, high):
            trial.suggest_float(name, low, high)
        case LogUniform(low, high):
            trial.suggest_float(name, low, high, log=True)
