"""From videos to a training folder: faces found, clips sifted, identities told apart."""
