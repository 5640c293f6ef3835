"""Where a teacher's signals come from: a model here, a cache, several teachers, an endpoint. All: batch -> Signals."""

from stillroom.teachers.base import Teacher as Teacher
from stillroom.teachers.cached import CachedTeacher as CachedTeacher
from stillroom.teachers.group import GroupTeacher as GroupTeacher
from stillroom.teachers.local import LearningTeacher as LearningTeacher
from stillroom.teachers.local import LocalTeacher as LocalTeacher
