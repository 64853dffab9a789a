"""guestsim: a scripted guest that drives storage devices through registers, rings and memory only.

It sees a machine as a guest sees it (`guestsim.targets.Target`); its ring code and layouts are its own.
"""
