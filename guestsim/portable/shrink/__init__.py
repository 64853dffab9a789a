"""Shrinking: from a trace on which a device fails to the shortest script on which it still does.

program.py   requests in groups, as a script can say them
model.py     what a right device answers them
render.py    the script
window.py    the last requests of a trace before something went wrong, as a program
reduce.py    taking parts away as long as it fails
simplify.py  making parts simpler as long as it fails
shrink.py    all of it
"""
