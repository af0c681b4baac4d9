"""Meshes as GLB, OBJ, STL, USDZ and FBX. Pure."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable

from langchain_tokenhub.testing.shapes import Mesh, normal_of


def glb(mesh: Mesh) -> bytes:
    """Write binary glTF 2.0: positions, colours and indices."""
    chunks = [
        b"".join(struct.pack("<3f", *p) for p in mesh.points),
        b"".join(struct.pack("<4B", *c, 255) for c in mesh.colours),
        b"".join(struct.pack("<3I", *f) for f in mesh.faces),
    ]
    text = json.dumps(_gltf(mesh, [len(c) for c in chunks]), separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = b"".join(chunks)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(data))
    return b"".join(
        (
            head,
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(data), b"BIN\0"),
            data,
        )
    )


def _gltf(mesh: Mesh, lengths: list[int]) -> dict[str, object]:
    starts = [0, lengths[0], lengths[0] + lengths[1]]
    columns = list(zip(*mesh.points, strict=True))
    count = len(mesh.points)
    return {
        "asset": {"version": "2.0", "generator": "TokenHub emulator"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}
                ]
            }
        ],
        "materials": [
            {"pbrMetallicRoughness": {"metallicFactor": 0.1, "roughnessFactor": 0.6}}
            | {"doubleSided": True}
        ],
        "buffers": [{"byteLength": sum(lengths)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": length, "target": target}
            for start, length, target in zip(starts, lengths, (34962, 34962, 34963), strict=True)
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": count, "type": "VEC3"}
            | {"min": [min(c) for c in columns], "max": [max(c) for c in columns]},
            {"bufferView": 1, "componentType": 5121, "count": count, "type": "VEC4"}
            | {"normalized": True},
            {"bufferView": 2, "componentType": 5125, "count": 3 * len(mesh.faces)}
            | {"type": "SCALAR"},
        ],
    }


def stl(mesh: Mesh) -> bytes:
    """Write binary STL."""
    rows = [
        struct.pack("<12fH", *normal_of(mesh, f), *(x for i in f for x in mesh.points[i]), 0)
        for f in mesh.faces
    ]
    return b"TokenHub emulator".ljust(80) + struct.pack("<I", len(rows)) + b"".join(rows)


def obj(mesh: Mesh) -> bytes:
    """Write a ZIP of OBJ and MTL, as the service does under the type `obj`."""
    lines = ["mtllib model.mtl", "usemtl body"]
    for (x, y, z), colour in zip(mesh.points, mesh.colours, strict=True):
        r, g, b = (c / 255 for c in colour)
        lines.append(f"v {x:.5f} {y:.5f} {z:.5f} {r:.3f} {g:.3f} {b:.3f}")
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in mesh.faces]
    red, green, blue = (c / 255 for c in mesh.colours[0])
    material = f"newmtl body\nKd {red:.3f} {green:.3f} {blue:.3f}\nillum 1\n"
    return _zip({"model.obj": "\n".join(lines) + "\n", "model.mtl": material})


def _zip(members: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Write an archive whose bytes depend on its members alone."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, text in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if method == zipfile.ZIP_STORED:
                info.extra = _padding(30 + out.tell() + len(name))
            archive.writestr(info, text)
    return out.getvalue()


def _padding(start: int) -> bytes:
    """Fill up so that a USDZ member begins at a multiple of 64 bytes."""
    room = -(start + 4) % 64
    return struct.pack("<HH", 0x1986, room) + bytes(room)


def usdz(mesh: Mesh) -> bytes:
    """Write USDZ: an uncompressed archive of one USDA file."""
    points = ", ".join(f"({x:.5f}, {y:.5f}, {z:.5f})" for x, y, z in mesh.points)
    corners = ", ".join(str(i) for face in mesh.faces for i in face)
    counts = ", ".join("3" for _ in mesh.faces)
    text = f"""#usda 1.0
(
    defaultPrim = "Model"
    upAxis = "Y"
)

def Mesh "Model"
{{
    int[] faceVertexCounts = [{counts}]
    int[] faceVertexIndices = [{corners}]
    point3f[] points = [{points}]
}}
"""
    return _zip({"model.usda": text}, zipfile.ZIP_STORED)


def fbx(mesh: Mesh) -> bytes:
    """Write ASCII FBX 7.4 with one mesh."""
    points = ",".join(f"{x:.5f}" for p in mesh.points for x in p)
    corners = ",".join(f"{a},{b},{-c - 1}" for a, b, c in mesh.faces)
    text = f"""; FBX 7.4.0 project file
FBXHeaderExtension: {{
    FBXHeaderVersion: 1003
    FBXVersion: 7400
}}
Objects: {{
    Geometry: 1, "Geometry::Model", "Mesh" {{
        Vertices: *{3 * len(mesh.points)} {{
            a: {points}
        }}
        PolygonVertexIndex: *{3 * len(mesh.faces)} {{
            a: {corners}
        }}
    }}
    Model: 2, "Model::Model", "Mesh" {{
        Version: 232
    }}
}}
Connections: {{
    C: "OO",1,2
    C: "OO",2,0
}}
"""
    return text.encode()


WRITERS: dict[str, Callable[[Mesh], bytes]] = {
    "glb": glb,
    "obj": obj,
    "stl": stl,
    "usdz": usdz,
    "fbx": fbx,
}
