"""A waveform in, {source: waveform} out, and how good it is."""

from helpers.separation.baselines import (
    ICA,
    Baseline,
    BlindNMF,
    Mixture,
    MultipassHPSS,
    OracleNMF,
    RepetSim,
    RobustPCA,
    folded,
    low_bins,
    two_sources,
    unfolded,
)
from helpers.separation.chunks import ChunkedSeparator, in_chunks
from helpers.separation.cost import (
    main,
    measure,
    multiply_adds,
    noise,
    parameters,
    peak_memory,
    separators,
    step_seconds,
    timed,
    voice_models,
)
from helpers.separation.evaluation import Evaluation, evaluate, evaluate_models, list_models
from helpers.separation.networks import (
    ModelSeparator,
    known_checkpoints,
    load_separator,
    low_rate,
    progress_line,
    separate_file,
    separate_files,
    share_residual,
    song_names,
)
from helpers.separation.oracles import (
    IdealBinaryMask,
    IdealRatioMask,
    IdealWienerMask,
    MaskSeparator,
    Oracle,
    PaddedSTFT,
    checked,
    shares,
    window_length,
)
from helpers.separation.postprocess import Postprocessed, denoise, envelope, high_pass, low_pass, quiet_windows
from helpers.separation.streaming import Streaming, overlap_add, streaming_separator
from helpers.separation.wiener import WienerRefined, multichannel_wiener
