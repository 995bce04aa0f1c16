from .workspace import Workspace as Workspace
from .workspace import open_workspace as open_workspace
