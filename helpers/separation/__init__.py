"""A waveform in, {source: waveform} out, and how good it is."""

from helpers.separation.anchors import FixedEqualiser, PublishedEstimates
from helpers.separation.baselines import BASELINES
from helpers.separation.catalogue import known_checkpoints, list_models, load_separator
from helpers.separation.evaluation import MULTITRACK, Evaluation, evaluate
from helpers.separation.every_speed import EverySpeed
from helpers.separation.files import separate_file
from helpers.separation.networks import ModelSeparator
from helpers.separation.oracles import IdealBinaryMask, IdealRatioMask, IdealWienerMask
from helpers.separation.postprocess import sweep
