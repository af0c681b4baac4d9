"""Generated tables of the media models: parameters, prices, effect templates. Pure."""

# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

from collections.abc import Iterator

from pydantic.fields import FieldInfo
from tables import Language, code, pick, table

from langchain_tokenhub.catalogue import (
    FxTemplate,
    MediaModel,
    Price,
    fx_templates,
    media_model,
)
from langchain_tokenhub.params import FileField, MediaParams, base, description, params_class
from langchain_tokenhub.params.base import MB
from langchain_tokenhub.params.models import LogoParam, ViewImage, ViewImage31


def parameters(language: Language, model: str) -> str:
    """Return the table of a media model's parameters with their limits."""
    heads = pick(language, "Parameter,Takes,Meaning", "参数,取值,说明").split(",")
    cls = params_class(model)
    return table(heads, (_parameter(language, cls, name) for name in cls.model_fields))


def _parameter(language: Language, cls: type[MediaParams], name: str) -> tuple[str, str, str]:
    field = cls.model_fields[name]
    must = pick(language, "required", "必填")
    return (
        f"`{name}`" + (f" **{must}**" if field.is_required() else ""),
        pick(language, "; ", "；").join(_limits(language, field)),
        description(cls, name, language),
    )


def _limits(language: Language, field: FieldInfo) -> Iterator[str]:
    found = [item for item in field.metadata if isinstance(item, base.Validator)]
    if found:
        yield from _check(language, found[0])
        return
    annotation = str(field.annotation)
    if LogoParam.__name__ in annotation:
        yield pick(
            language,
            "object: `logo_url`, `logo_image`, `logo_rect` (`x`, `y`, `width`, `height`)",
            "对象：`logo_url`、`logo_image`、`logo_rect`（`x`、`y`、`width`、`height`）",
        )
    elif "ViewImage" in annotation:
        yield from _views(language, annotation)
    else:
        yield pick(language, "object", "对象")


def _views(language: Language, annotation: str) -> Iterator[str]:
    view = ViewImage31 if ViewImage31.__name__ in annotation else ViewImage
    words = next(i for i in view.model_fields["view_type"].metadata if isinstance(i, base.Choice))
    yield pick(
        language,
        f"list of objects: `view_type` ({code(language, words.values)}), `view_image_url` or "
        "`view_image_base64` (jpg, jpeg, png)",
        f"对象列表：`view_type`（{code(language, words.values)}）、`view_image_url` 或 "
        "`view_image_base64`（jpg、jpeg、png）",
    )


def _check(language: Language, check: base.Validator) -> Iterator[str]:
    match check:
        case base.String(most=most):
            yield pick(language, "text", "文本")
            if most:
                yield pick(language, f"1 to {most} characters", f"1–{most} 个字符")
        case base.Integer(least=least, most=None):
            yield pick(language, f"integer from {least}", f"不小于 {least} 的整数")
        case base.Integer(least=least, most=most):
            yield pick(language, f"integer {least} to {most}", f"{least}–{most} 的整数")
        case base.Choice(values=values):
            yield code(language, values)
        case base.Boolean():
            yield "`true`, `false`"
        case base.PixelSize():
            yield from _size(language, check)
        case base.Base64(max_bytes=most):
            yield pick(
                language,
                f"base64 text of at most {most // MB} MB",
                f"base64 文本，不超过 {most // MB} MB",
            )
        case base.JobId():
            yield pick(language, "job ID", "任务 ID")
        case FileField():
            yield from _file(language, check)
        case _:
            raise TypeError(f"{type(check).__name__}: describe it in docs/media_tables.py")


def _size(language: Language, size: base.PixelSize) -> Iterator[str]:
    yield pick(language, "`width:height` in pixels", "`宽:高`，单位像素")
    if size.most:
        yield pick(language, f"each {size.least} to {size.most}", f"各 {size.least}–{size.most}")
    if size.pixels:
        yield pick(language, f"product at most {size.pixels}", f"乘积不超过 {size.pixels}")
    if size.long_sides:
        sides = ", ".join(map(str, size.long_sides))
        yield pick(language, f"long side one of {sides}", f"长边取值：{sides}")


def _file(language: Language, field: FileField) -> Iterator[str]:
    if field.is_list:
        count = f"{field.least}–{field.most}"
        yield pick(language, f"list of {count} files", f"{count} 个文件的列表")
    else:
        yield pick(language, "a file", "一个文件")
    yield ", ".join(field.formats)
    if field.max_bytes_url:
        most = field.max_bytes_url // MB
        yield pick(language, f"at most {most} MB", f"不超过 {most} MB")
    if field.max_bytes_base64:
        most = field.max_bytes_base64 // MB
        yield pick(language, f"as base64 at most {most} MB", f"base64 后不超过 {most} MB")
    if field.side_min:
        sides = f"{field.side_min}–{field.side_max}"
        yield pick(language, f"sides {sides} px", f"边长 {sides} 像素")
    if field.ratio_max:
        ratio = f"{field.ratio_max:g}:1"
        yield pick(language, f"ratio up to {ratio}", f"长宽比不超过 {ratio}")
    if field.seconds_max:
        span = f"{field.seconds_min:g}–{field.seconds_max:g}"
        yield pick(language, f"{span} s", f"{span} 秒")


# --- what a job costs -----------------------------------------------------------------------------


def facts(language: Language, model: str) -> str:
    """Return price, time and limits of a media model."""
    row = media_model(model)
    if row is None:
        raise ValueError(f"{model!r} is not in the catalogue")
    heads = pick(language, "Fact,Value", "项目,数值").split(",")
    return table(heads, _facts(language, row))


def _facts(language: Language, row: MediaModel) -> Iterator[tuple[str, str]]:
    yield pick(language, "Tool name", "工具名"), f"`{row.tool_name}`"
    yield pick(language, "Price estimate", "价格估算"), _price(language, row.price)
    if row.typical_seconds:
        yield (
            pick(language, "Usual time", "通常耗时"),
            pick(language, f"{row.typical_seconds:g} s", f"{row.typical_seconds:g} 秒"),
        )
    wait = pick(language, f"{row.wait_timeout:g} s", f"{row.wait_timeout:g} 秒")
    yield pick(language, "`wait_timeout`", "`wait_timeout` 默认值"), wait
    yield pick(language, "Jobs at once per account", "账号并发任务数"), str(row.max_in_flight)
    hours = row.link_life // 3600
    yield (
        pick(language, "Links expire after", "链接有效期"),
        pick(language, f"{hours} h", f"{hours} 小时"),
    )


def _price(language: Language, price: Price | None) -> str:
    if price is None:
        return pick(language, "not known", "未知")
    per = dict(zip(("job", "image", "second", "template"), _PER[language], strict=True))[price.per]
    parts = [pick(language, f"about {price.cny} CNY {per}", f"{per}约 {price.cny} 元")]
    if price.variants:
        some = ", ".join(f"`{word}` {amount:g}" for word, amount in price.variants.items())
        parts.append(
            pick(language, f"credits by `{price.by}`: {some}", f"积分（按 `{price.by}`）：{some}")
        )
    if price.extras:
        some = ", ".join(f"`{word}` +{amount:g}" for word, amount in price.extras.items())
        parts.append(pick(language, f"extra credits: {some}", f"附加积分：{some}"))
    parts.append(
        pick(
            language,
            f"1 credit ≈ {price.cny_per_credit:g} CNY",
            f"1 积分 ≈ {price.cny_per_credit:g} 元",
        )
    )
    return pick(language, "; ", "；").join(parts)


_PER: dict[Language, tuple[str, ...]] = {
    "en": ("a job", "an image", "a second of audio", "a job, by template"),
    "zh": ("每个任务", "每张图片", "每秒音频", "每个任务（由模板决定）"),
}


def templates(language: Language) -> str:
    """Return the effect templates of yt-video-fx."""
    heads = pick(
        language,
        "Template,Chinese name,Images,Credits",
        "模板,名称,图片张数,积分",
    ).split(",")
    return table(heads, (_template(language, row) for row in fx_templates()))


def _template(language: Language, row: FxTemplate) -> tuple[str, str, str, str]:
    least, most = row.images_min, row.images_max
    count = f"{least}" if least == most else f"{least}–{most}"
    if not row.images_known:
        count += pick(language, " (assumed)", "（推测）")
    amounts = ", ".join(f"{size} {amount:g}" for size, amount in row.credits.items())
    if row.per_extra_image:
        amounts += pick(language, ", times (images − 1)", "，乘以（图片数 − 1）")
    return f"`{row.id}`", row.name_zh or "–", count, amounts or "–"
