# %% [markdown]
# # From a photo to a turntable
#
# A photo of a product becomes a 3D model. The model turns in the notebook, and in a GIF for the
# shop's page, drawn on this machine without a graphics card.
#
# `product_3d.ipynb` and `product_3d.py` hold the same: open the one in Jupyter, or run the other
# with `python examples/product_3d.py`.
#
# ```bash
# pip install ".[emulator,viewer]"    # in a clone
# ```

# %%
from __future__ import annotations

import base64
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh
from PIL import Image, ImageDraw

from langchain_tokenhub import Tokenhub3DTool, TokenHubImageTool
from langchain_tokenhub.testing.offline import emulator_unless_key

session = ExitStack()
hub = session.enter_context(emulator_unless_key())  # without a key nothing is charged

# %% [markdown]
# ## The photo
#
# Yours, if you name one: jpg, png or webp, sides from 128 to 5000 px. Else one is drawn.

# %%
PHOTO = None  # "teapot.jpg"
photo = PHOTO or TokenHubImageTool(save_to="studio-out").generate(
    prompt="一把紫砂茶壶的产品照片，正面，白色背景"
)
photo

# %% [markdown]
# ## The model
#
# Displayed, it can be turned with the mouse. The files are in `studio-out` before their links die.

# %%
tool = Tokenhub3DTool(model="hy-3d-3.1", save_to="studio-out", allow_local_files=["."])
shape = tool.generate(image_url=photo, enable_pbr=True)
shape

# %% [markdown]
# ## The turntable
#
# Faces are drawn from the farthest to the nearest, each the brighter the more it faces the lamp.


# %%
def colours_of(mesh: trimesh.Trimesh) -> np.ndarray:
    at_corners = mesh.visual.vertex_attributes.get("color")
    if at_corners is None:  # they are in a texture
        at_corners = mesh.visual.to_color().vertex_colors
    return at_corners[mesh.faces].mean(axis=1)[:, :3]


class Turntable(NamedTuple):
    """A GIF that a notebook shows."""

    path: Path

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.path.read_bytes()).decode()
        return f'<img src="data:image/gif;base64,{data}">'


def turntable(model: Path, to: Path, *, frames: int = 30, size: int = 320) -> Turntable:
    meshes = list(trimesh.load_scene(model).geometry.values())
    corners = np.concatenate([mesh.triangles for mesh in meshes])
    colours = np.concatenate([colours_of(mesh) for mesh in meshes])
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    corners = (corners - (low + high) / 2) / (high - low).max()
    images = []
    for angle in np.linspace(0, 2 * np.pi, frames, endpoint=False):
        turned = corners @ trimesh.transformations.euler_matrix(angle, 0.4, 0, "syxz")[:3, :3].T
        normals = np.cross(turned[:, 1] - turned[:, 0], turned[:, 2] - turned[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        light = 0.35 + 0.65 * np.abs(normals @ [0.36, 0.48, 0.8])
        frame = Image.new("RGB", (size, size), "white")
        draw = ImageDraw.Draw(frame)
        for face in turned[:, :, 2].mean(axis=1).argsort():
            flat = (turned[face, :, :2] * [1, -1] * 0.8 + 0.5) * size
            draw.polygon(list(map(tuple, flat)), tuple((colours[face] * light[face]).astype(int)))
        images.append(frame)
    images[0].save(to, save_all=True, append_images=images[1:], duration=66, loop=0)
    return Turntable(to)


glb = next(file.path for file in shape.files if file.type == "glb")
turning = turntable(glb, glb.with_suffix(".gif"))
print(turning.path)
turning

# %%
session.close()
