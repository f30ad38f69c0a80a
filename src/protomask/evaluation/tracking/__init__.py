"""How well objects keep their identity in videos: HOTA, IDF1, MOTSA, sMOTSA and identity switches of masks."""
