"""The check of a data set, for programs: what is wrong or odd in it, and the report about that."""

from protomask.data.doctor.check import check_dataset
from protomask.data.doctor.problems import Problem
from protomask.data.doctor.report import CheckReport

__all__ = ["CheckReport", "Problem", "check_dataset"]
