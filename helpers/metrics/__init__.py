"""Estimates and truth to numbers: images, BSS Eval, signal differences, means with intervals."""

from helpers.metrics.bss_eval import References
from helpers.metrics.images import mse_when_padded, psnr_from_mse
from helpers.metrics.intervals import mean_and_interval
from helpers.metrics.signals import si_sdr, signal_difference
