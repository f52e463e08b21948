"""The library by itself: an opened model, its maps, knock-outs and figures, without a workflow."""
