import pytest


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """A random-weight miniature in LTX-2.3's structure, half the shipped one's width."""
    from miniature.build import MiniatureConfig, build_random

    config = MiniatureConfig(
        heads=2,
        layers=2,
        latent_channels=8,
        vae_channels=(16, 32),
        decoder_channels=(32, 32),
        text_width=32,
    )
    return build_random(tmp_path_factory.mktemp("checkpoint") / "random", config)


@pytest.fixture
def pipe(random_checkpoint):
    from stdrc.pipeline import STDRCPipeline

    pipeline = STDRCPipeline.from_pretrained(random_checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
