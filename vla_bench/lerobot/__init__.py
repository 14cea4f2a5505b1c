"""The layout of LeRobot data sets, version 3: what demonstrations and recordings of runs are written in."""
