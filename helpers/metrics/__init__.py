"""Estimates and truth to numbers: images, BSS Eval, signal differences, intervals."""

from helpers.metrics.bss_eval import References, Scores
from helpers.metrics.images import bootstrap_interval, mean_and_interval, mse, psnr, psnr_from_mse, score_images, ssim
from helpers.metrics.signals import (
    GlobalMean,
    SignalDifference,
    framewise_v4,
    global_means,
    nsdr,
    si_sdr,
    signal_difference,
)
