"""Every setting, with its unit, default, reason and source; the study file, and the known encoders.

Imports nothing heavy.
"""

from hardmil.config.evaluation import EvaluationConfig as EvaluationConfig
from hardmil.config.evaluation import FisherConfig as FisherConfig
from hardmil.config.known_encoders import KnownEncoder as KnownEncoder
from hardmil.config.known_encoders import known_encoder as known_encoder
from hardmil.config.mining import MiningConfig as MiningConfig
from hardmil.config.model import InstanceLossConfig as InstanceLossConfig
from hardmil.config.model import ModelConfig as ModelConfig
from hardmil.config.model import NetworkConfig as NetworkConfig
from hardmil.config.model import PoolingConfig as PoolingConfig
from hardmil.config.model import RankLossConfig as RankLossConfig
from hardmil.config.model import ResolvedModelConfig as ResolvedModelConfig
from hardmil.config.model import TrainingConfig as TrainingConfig
from hardmil.config.model import VerdictLossConfig as VerdictLossConfig
from hardmil.config.model import resolve_config as resolve_config
from hardmil.config.patches import PatchConfig as PatchConfig
from hardmil.config.patches import TissueConfig as TissueConfig
from hardmil.config.study import InstanceConfig as InstanceConfig
from hardmil.config.study import StudyConfig as StudyConfig
from hardmil.config.study_file import commented_yaml as commented_yaml
from hardmil.config.study_file import read_study as read_study
