"""The images of an edit as uploads of the caller, which are kept for a day."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from django.contrib.auth.models import User

from generation.api.openai.edit_forms import EditForm, GivenImage
from generation.api.openai.errors import Fault, Refused
from generation.requests import uploads
from generation.requests.new_request import NewImage, NewRequest
from generation.states import ImageRole
from generation.storage.uploads_image import BusyError, RejectedImageError, cleaned

logger = logging.getLogger(__name__)


def placeholders(form: EditForm) -> list[NewImage]:
    """Return the images without their uploads, for the choice of a model. With a mask the first one is edited."""
    return [
        NewImage(role=_role(form, image, index), path=image.field, upload_id=f"{index}")
        for index, image in enumerate(form.images)
    ]


def _role(form: EditForm, image: GivenImage, index: int) -> ImageRole:
    if image.field == "mask":
        return ImageRole.MASK
    return ImageRole.SOURCE if form.has_mask and index == 0 else ImageRole.CHARACTER


def with_uploads(owner: User, form: EditForm, drafts: Sequence[NewRequest]) -> list[NewRequest]:
    """Store the images of the form, and return the requests that refer to them. Raises :class:`Refused`."""
    ids = {str(index): _upload_id(owner, image) for index, image in enumerate(form.images)}
    return [
        replace(
            draft, images=tuple(replace(one, upload_id=ids.get(one.upload_id, one.upload_id)) for one in draft.images)
        )
        for draft in drafts
    ]


def _upload_id(owner: User, image: GivenImage) -> str:
    if image.file is None:
        return image.upload_id
    try:
        with cleaned(image.file) as clean:
            upload, _ = uploads.store(owner=owner, name=image.field, image=clean, is_temporary=True)
        return upload.pk
    except RejectedImageError as error:
        raise Refused(Fault(status=400, message=str(error), param=image.field, code=error.code)) from None
    except uploads.QuotaExceededError:
        message = "Your uploads take as much as they may; delete some first"
        raise Refused(Fault(status=400, message=message, param=image.field, code="upload_quota")) from None
    except (BusyError, OSError) as error:
        if isinstance(error, OSError):
            logger.error("an image of an edit was not stored: %s", error)
        message = "Images cannot be stored at the moment"
        raise Refused(Fault(status=503, message=message, code="unavailable", headers={"retry-after": "10"})) from None
    finally:
        with suppress(OSError):
            image.file.close()
