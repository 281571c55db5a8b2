"""Cut clips into train, validation and test parts: `Clips` and a protocol in, one `Fold` per turn out.

Whatever the protocol, validation is cut out of what the test part leaves over, never out of the test part, and every class is trained on.
`across`: never a subject on both sides of a test; `within`: each recording's clips of each class are cut apart by their positions; `given`: the
split that comes with the data; `protocols`: which of these a study names.
"""

from fercompress.data.folds.across import across_subjects, by_subject, subject_kfold, subjects_ascending, subjects_shuffled
from fercompress.data.folds.given import given
from fercompress.data.folds.protocols import named
from fercompress.data.folds.within import contiguous, leaky_image, modulo

__all__ = [
    "across_subjects", "by_subject", "contiguous", "given", "leaky_image", "modulo", "named", "subject_kfold", "subjects_ascending",
    "subjects_shuffled",
]  # fmt: skip
