"""What the miniature offers to the other packages, through the seam that every plug-in has.

The distribution names this module under the entry point group `stdrc.plugins`; `media.plugins`
says what each name means. Nothing is imported before it is used.
"""

CHECKPOINTS = {"miniature": "miniature:checkpoint", "random": "miniature:random_checkpoint"}
VARIANTS = {"miniature": "miniature:variants"}
REMARKS = {"miniature": "miniature.remarks:remarks"}
EVALSETS = {
    "world": "miniature.evalset:WorldSet",
    "world_sequential": "miniature.evalset:WorldSequentialSet",
    "world_people": "miniature.evalset:WorldPeopleSet",
}
FACE_BACKENDS = {"miniature": "miniature.judges.faces:MiniatureFaces"}
METRICS = (
    "miniature.judges.metrics:load_video",
    "miniature.judges.metrics:MiniatureTextScore",
    "miniature.judges.metrics:MiniatureTimeline",
    "miniature.judges.metrics:WorldBackground",
    "miniature.judges.metrics:WorldMotion",
    "miniature.judges.metrics:AttributeLeakage",
)
FACE_ENCODERS = {"miniature": "miniature.identity_encoder:load_identity_encoder"}
CONFIGS = "miniature.configs"
