"""The types of the installed package: what type checkers accept and refuse, and that the stub says what there is."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unittest
from collections.abc import Callable
from typing import Any, ClassVar

import quotum
import quotum.http
from quotum import _native

EXAMPLES = pathlib.Path(__file__).with_name("typing")
BACKENDS = [
    pathlib.Path(__file__).parents[2] / "examples" / backend
    for backend in ("tender-search/tender_search", "chat/chat_assistant")
]
ACCEPTED = ("blocking.py", "tasks.py", "responses.py")
STUB = ast.parse(pathlib.Path(quotum.__file__).with_name("_native.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
# What annotations only are made of.
SHAPES = {"_Breaker", "_Lease", "_TokenStats"}
# In the stub, their verbs are stated by the classes that extend them, because what these return differs.
BASES = {"Engine", "Handle", "Held"}
RUNTIME_CLASSES = {name: value for name, value in vars(_native).items() if isinstance(value, type)}
STUB_CLASSES = [name for name in CLASSES if name not in SHAPES]
# What no type checker would let pass.
WRONG: Any = "?"
NONSENSE: dict[str, Any] = {"nonsense": 1}


def checked(tool: str, *arguments: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", tool, *arguments]
    env = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


class TypeChecker(unittest.TestCase):
    """What a type checker makes of the examples."""

    tool: ClassVar[str]
    folder: ClassVar[pathlib.Path]
    found: ClassVar[dict[str, dict[int, str]]]

    @classmethod
    def setUpClass(cls) -> None:
        if importlib.util.find_spec(cls.tool) is None:
            raise unittest.SkipTest(f"{cls.tool} is not installed: pip install {cls.tool}")
        if checked(cls.tool, "--version", folder=EXAMPLES).returncode != 0:
            raise unittest.SkipTest(f"{cls.tool} is installed, but does not run here")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        # Elsewhere, so that neither a cache nor a configuration is shared with the source tree.
        for example in EXAMPLES.glob("*.py"):
            shutil.copy(example, cls.folder)
        cls.found = cls.errors()

    @classmethod
    def errors(cls) -> dict[str, dict[int, str]]:
        """What it says of each line that it refuses, by file."""
        raise NotImplementedError

    def test_the_example_backends_are_accepted(self) -> None:
        for backend in BACKENDS:
            with self.subTest(backend.name):
                run = checked(self.tool, *self.options(), backend.name, folder=backend.parent)
                self.assertEqual(run.returncode, 0, run.stdout)

    def options(self) -> list[str]:
        """How it is asked about a package."""
        raise NotImplementedError

    def test_what_backends_write_is_accepted(self) -> None:
        refused = {name: lines for name, lines in self.found.items() if name != "refused.py"}
        self.assertEqual(refused, {})

    def test_every_marked_line_is_refused_and_no_other(self) -> None:
        lines = (self.folder / "refused.py").read_text(encoding="utf-8").splitlines()
        marks = {number: re.search(r"# refused(?: by (\w+))?$", line) for number, line in enumerate(lines, 1)}
        marked = {number for number, mark in marks.items() if mark and mark[1] in (None, self.tool)}
        self.assertGreater(len(marked), 50)
        found = self.found.get("refused.py", {})
        self.assertEqual({number: found.get(number, "accepted") for number in marked ^ found.keys()}, {})


class MypyTest(TypeChecker):
    tool = "mypy"

    @classmethod
    def errors(cls) -> dict[str, dict[int, str]]:
        arguments = ("--strict", "--config-file=", "--output=json", *ACCEPTED, "refused.py")
        found: dict[str, dict[int, str]] = {}
        for line in checked("mypy", *arguments, folder=cls.folder).stdout.splitlines():
            error = json.loads(line)
            if error["severity"] == "error":
                found.setdefault(error["file"], {})[error["line"]] = error["message"]
        return found

    def options(self) -> list[str]:
        return ["--strict", "--config-file=", "--cache-dir", str(self.folder / "cache")]

    def test_the_stub_says_what_the_module_has(self) -> None:
        (self.folder / "mypy.ini").write_text("[mypy]\nstrict = true\n", encoding="utf-8")
        allowed = str(EXAMPLES / "stubtest-allowlist.txt")
        arguments = ("quotum._native", "--concise", "--allowlist", allowed, "--mypy-config-file", "mypy.ini")
        run = checked("mypy.stubtest", *arguments, folder=self.folder)
        self.assertEqual((run.stdout, run.returncode), ("", 0))


class PyrightTest(TypeChecker):
    tool = "pyright"

    @classmethod
    def errors(cls) -> dict[str, dict[int, str]]:
        # An expression that is only looked at is no error of types.
        strict = {"typeCheckingMode": "strict", "reportUnusedExpression": "none"}
        (cls.folder / "pyrightconfig.json").write_text(json.dumps(strict), encoding="utf-8")
        run = checked("pyright", "--outputjson", "--pythonpath", sys.executable, folder=cls.folder)
        found: dict[str, dict[int, str]] = {}
        for error in json.loads(run.stdout)["generalDiagnostics"]:
            if error["severity"] == "error":
                line = error["range"]["start"]["line"] + 1
                found.setdefault(pathlib.Path(error["file"]).name, {})[line] = error["message"]
        return found


    def options(self) -> list[str]:
        return ["--pythonpath", sys.executable]


# Those of each type checker are tests, not these.
del TypeChecker

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(name: str) -> list[Function]:
    return [node for node in CLASSES[name].body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def is_property(function: Function) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in function.decorator_list)


def members(name: str) -> dict[str, Function]:
    """The public members of a class and of those it extends, by name."""
    bases = [base.id for base in CLASSES[name].bases if isinstance(base, ast.Name)]
    inherited = [member for base in bases if base in CLASSES for member in members(base).values()]
    return {member.name: member for member in (*inherited, *functions(name)) if not member.name.startswith("_")}


def runtime_members(cls: type) -> dict[str, object]:
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}


def literal(name: str) -> set[object]:
    """The words of an alias such as `_Reason`."""
    alias = next(node for node in STUB.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name)
    return {node.value for node in ast.walk(alias) if isinstance(node, ast.Constant)}


def keywords(function: Function) -> set[str]:
    return {argument.arg for argument in function.args.kwonlyargs}


def one_line(text: str | None) -> str:
    return " ".join((text or "").split())


class StubTest(unittest.TestCase):
    maxDiff = None

    def test_every_class_is_there_and_the_other_way_round(self) -> None:
        self.assertEqual(set(STUB_CLASSES), RUNTIME_CLASSES.keys())

    def test_every_function_is_there_and_the_other_way_round(self) -> None:
        stubbed = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef)}
        self.assertEqual(stubbed, {name for name, value in vars(_native).items() if inspect.isbuiltin(value)})

    def test_every_member_is_there_and_the_other_way_round(self) -> None:
        for name in STUB_CLASSES:
            runtime = runtime_members(RUNTIME_CLASSES[name])
            with self.subTest(name):
                if name in BASES:
                    self.assertLessEqual(members(name).keys(), runtime.keys())
                    continue
                stubbed = {member: is_property(node) for member, node in members(name).items()}
                kinds = {member: isinstance(value, types.GetSetDescriptorType) for member, value in runtime.items()}
                self.assertEqual(stubbed, kinds)

    def test_what_is_exported_is_in_the_stub(self) -> None:
        exported = {*quotum.__all__, "HttpAnswer", "Mapping", "check_store", "client_address", "end_calls", "token_of"}
        classes = {name: value for name, value in vars(quotum).items() if isinstance(value, type)}
        errors = {name for name, value in classes.items() if issubclass(value, Exception)}
        private = {name for name in CLASSES if name.startswith("_")} | BASES
        stubbed = {node.name for node in STUB.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        self.assertEqual(exported - errors - {"__version__"}, stubbed - private)

    def test_tasks_have_the_verbs_of_synchronous_callers(self) -> None:
        pairs = {"Quota": "AsyncQuota", "Reservation": "AsyncReservation", "Subject": "AsyncSubject"}
        for blocking, tasks in pairs.items():
            own, others = members(blocking), members(tasks)
            self.assertEqual(own.keys() - {"to_async"}, others.keys() - {"to_blocking"})
            for name in own.keys() & others.keys() - {"open"}:
                with self.subTest(f"{tasks}.{name}"):
                    self.assertEqual(ast.unparse(own[name].args), ast.unparse(others[name].args))
                    self.assertEqual(ast.get_docstring(own[name]), ast.get_docstring(others[name]))

    def test_everything_public_has_a_docstring(self) -> None:
        documented: list[ast.ClassDef | Function] = [CLASSES[name] for name in STUB_CLASSES]
        documented += [member for name in STUB_CLASSES for member in members(name).values()]
        documented += [node for node in STUB.body if isinstance(node, ast.FunctionDef)]
        self.assertEqual([node.name for node in documented if not ast.get_docstring(node)], [])

    def test_docstrings_are_those_of_run_time(self) -> None:
        for name in STUB_CLASSES:
            if name in BASES:
                continue
            cls = RUNTIME_CLASSES[name]
            with self.subTest(name):
                self.assertEqual(one_line(ast.get_docstring(CLASSES[name])), one_line(inspect.getdoc(cls)))
            for member, node in members(name).items():
                with self.subTest(f"{name}.{member}"):
                    self.assertEqual(one_line(ast.get_docstring(node)), one_line(inspect.getdoc(getattr(cls, member))))
        for function in STUB.body:
            if isinstance(function, ast.FunctionDef):
                with self.subTest(function.name):
                    runtime = getattr(_native, function.name)
                    self.assertEqual(one_line(ast.get_docstring(function)), one_line(inspect.getdoc(runtime)))


class WordsTest(unittest.TestCase):
    """An error lists the words that are known: they are those of the stub."""

    plans: ClassVar[dict[str, object]]
    quota: ClassVar[quotum.Quota]

    @classmethod
    def setUpClass(cls) -> None:
        cls.plans = {"default_plan": "free", "plans": {"free": {"quotas": {"searches": "3/month"}}}}
        cls.quota = quotum.Quota.open("memory:", plans=cls.plans)
        cls.addClassCleanup(cls.quota.close)

    def known(self, call: Callable[[], object]) -> set[str]:
        with self.assertRaises(quotum.QuotumError) as refused:
            call()
        words = re.findall(r"\w+", str(refused.exception).rpartition("expected ")[2])
        return set(words) - {"or", "one", "of", "a", "period"}

    def test_words_are_those_that_the_core_knows(self) -> None:
        asked = {
            "_Status": lambda: self.quota.subscribers(status=WRONG),
            "_Enforcement": lambda: self.quota.set_enforcement(WRONG),
            "_EventName": lambda: self.quota.events(name=WRONG),
            "_LoggedEvents": lambda: quotum.Quota.open("memory:", plans=self.plans, log_events=WRONG),
            "_Fields": lambda: quotum.http.Mapping(fields=WRONG),
            "_Reason": lambda: quotum.http.Mapping(statuses={WRONG: 402}),
            "_Period": lambda: quotum.Subscription("free", quotas={"searches": "3/fortnight"}),
        }
        for alias, call in asked.items():
            with self.subTest(alias):
                self.assertEqual(literal(alias), self.known(call))

    def test_options_are_those_that_engines_have(self) -> None:
        known = self.known(lambda: quotum.Quota.open("memory:", **NONSENSE))
        for name in ("Quota", "AsyncQuota"):
            self.assertEqual(keywords(members(name)["open"]), known)

    def test_fields_are_those_that_subscriptions_have(self) -> None:
        known = self.known(lambda: quotum.Subscription("free", **NONSENSE))
        made = next(function for function in functions("Subscription") if function.name == "__new__")
        for function in (made, members("Quota")["subscribe"]):
            self.assertEqual(keywords(function), known)


if __name__ == "__main__":
    unittest.main()
