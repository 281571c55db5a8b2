"""Shared by all tests: one thread for torch, so that tests of several processes do not fight for the cores."""

import torch

torch.set_num_threads(1)
