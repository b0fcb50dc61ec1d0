"""A waveform in, {source: waveform} out, and how good it is."""

from helpers.separation.anchors import FixedEqualiser, PublishedEstimates
from helpers.separation.baselines import BASELINES, ICA, BlindNMF, Mixture, MultipassHPSS, OracleNMF, RepetSim
from helpers.separation.catalogue import known_checkpoints, list_models, load_separator
from helpers.separation.chunks import ChunkedSeparator, in_chunks, in_pieces
from helpers.separation.cost import (
    described,
    measured_cost,
    multiply_adds,
    parameters,
    separators,
    step_seconds,
    timed,
    voice_models,
)
from helpers.separation.evaluation import MULTITRACK, Evaluation, evaluate, evaluate_models
from helpers.separation.every_speed import EverySpeed
from helpers.separation.files import progress_line, separate_file, separate_files
from helpers.separation.networks import ModelSeparator, share_residual
from helpers.separation.oracles import (
    IdealBinaryMask,
    IdealRatioMask,
    IdealWienerMask,
    MaskSeparator,
    Oracle,
    shares,
)
from helpers.separation.postprocess import (
    Postprocessed,
    Remembered,
    Rest,
    WienerRefined,
    denoise,
    envelope,
    high_pass,
    low_pass,
    multichannel_wiener,
    pause_level,
    sweep,
)
