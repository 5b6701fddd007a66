"""Optimizers, learning-rate schedules, losses and freezing, each by registered name or import path."""

from cifar_flax.optim.muon import Muon, MuonConfig, MuonSGD
from cifar_flax.optim.optimizers import Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, RMSprop
from cifar_flax.optim.sgd import SGD

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Muon", "MuonConfig", "MuonSGD", "RMSprop"]
