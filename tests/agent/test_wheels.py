import os
import stat
import sys
import unittest
import zipfile

import agent_fixtures as fixtures

from fercompress_agent import Problem, wheels


class WheelsTest(fixtures.Tree):
    def wheel(self, files, name="thing-1.0-py3-none-any.whl"):
        """files: {name or ZipInfo: text}; returns: the path"""
        path = os.path.join(self.root, name)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, text in files.items():
                archive.writestr(entry, text)
        return path

    @property
    def site(self):
        return os.path.join(self.root, "site")

    def install(self, *paths, **more):
        asked = {"versions": {"thing": "1.0"}, "limit_bytes": 1 << 20, "site": self.site}
        asked.update(more)
        return wheels.install({path: fixtures.sha256(path) for path in paths}, **asked)

    def contents(self, found):
        folder = os.path.join(self.site, found["folder"])
        return sorted(
            os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) if "__pycache__" not in where for name in names
        )

    def test_a_wheels_modules_land_in_one_folder_and_what_no_import_needs_does_not(self):
        found = self.install(
            self.wheel({
                "thing/__init__.py": "VALUE = 7\n", "thing-1.0.data/purelib/pure.py": "", "thing-1.0.data/platlib/thing/native.so": "x",
                "thing-1.0.data/scripts/run": "#!", "thing-1.0.data/data/etc/conf": "", "thing-1.0.dist-info/METADATA": "",
            })
        )  # fmt: skip
        self.assertEqual(self.contents(found), ["pure.py", "thing-1.0.dist-info/METADATA", "thing/__init__.py", "thing/native.so"])
        self.assertTrue(os.path.isdir(os.path.join(self.site, found["folder"], "thing", "__pycache__")))
        self.assertEqual(wheels.sound(self.site), found)

    def test_names_that_would_leave_the_folder_are_refused_and_nothing_is_written(self):
        link = zipfile.ZipInfo("thing/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        for entry in ("../outside.py", "/tmp/outside.py", "thing/../../outside.py", "thing\\..\\outside.py", "thing//x.py", "C:/x.py", link):
            with self.subTest(entry=getattr(entry, "filename", entry)), self.assertRaisesRegex(Problem, "would not stay in its folder"):
                self.install(self.wheel({entry: "harm"}))
            self.assertEqual(os.listdir(self.site), [])
        with self.assertRaisesRegex(Problem, "would not stay in its folder"):
            self.install(self.wheel({"thing-1.0.data/purelib/../../../outside.py": "harm"}))
        self.assertEqual([name for name in os.listdir(self.root) if "outside" in name], [])

    def test_a_wheel_that_is_not_what_was_sent_or_no_zip_file_is_refused(self):
        path = self.wheel({"thing.py": ""})
        with self.assertRaisesRegex(Problem, "is not what was sent"):
            wheels.install({path: "0" * 64}, {}, 1 << 20, self.site)
        with self.assertRaisesRegex(Problem, "is not what was sent"):
            wheels.install({path + ".absent": "0" * 64}, {}, 1 << 20, self.site)
        with open(path, "wb") as file:
            file.write(b"no zip file")
        with self.assertRaisesRegex(Problem, "not a wheel that can be read"):
            self.install(path)

    def test_what_unpacks_to_more_than_there_is_room_for_stops_and_leaves_nothing(self):
        bomb = self.wheel({"thing.py": "#" * 5_000_000})
        self.assertLess(os.path.getsize(bomb), 100_000)
        with self.assertRaisesRegex(Problem, "need more than the 1048576 bytes"):
            self.install(bomb)
        self.assertEqual(os.listdir(self.site), [])

    def test_two_wheels_with_one_file_are_refused(self):
        one, other = (self.wheel({"thing.py": name}, name) for name in ("a-1-py3-none-any.whl", "b-1-py3-none-any.whl"))
        with self.assertRaisesRegex(Problem, "in another wheel too"):
            self.install(one, other)

    def test_a_second_set_replaces_the_first_and_one_that_fails_leaves_it_in_use(self):
        first = self.install(self.wheel({"thing.py": "one"}))
        with self.assertRaises(Problem):
            self.install(self.wheel({"../x": ""}, "bad-1-py3-none-any.whl"))
        self.assertEqual(wheels.sound(self.site), first)
        second = self.install(self.wheel({"thing.py": "other"}))
        self.assertEqual(wheels.sound(self.site), second)
        self.assertEqual(len([name for name in os.listdir(self.site) if not name.endswith(".json")]), 1)

    def test_a_file_that_was_removed_since_is_noticed_and_installing_again_mends_it(self):
        path = self.wheel({"thing.py": "", "other.py": ""})
        found = self.install(path)
        os.remove(os.path.join(self.site, found["folder"], "other.py"))
        self.assertEqual(wheels.sound(self.site), {})
        self.assertEqual(self.install(path), found)
        self.assertEqual(wheels.sound(self.site), found)

    def test_a_forged_record_names_no_folder_elsewhere(self):
        found = self.install(self.wheel({"thing.py": ""}))
        record = [name for name in os.listdir(self.site) if name.endswith(".json")][0]
        self.write(os.path.join("site", record), '{"folder": "../elsewhere"}')
        self.assertEqual(wheels.record(self.site), {})
        self.write(os.path.join("site", record), "[")
        self.assertEqual(wheels.record(self.site), {})
        self.assertEqual(self.install(self.wheel({"thing.py": ""})), found)

    def test_the_folder_comes_before_installed_packages_and_behind_the_standard_library(self):
        found = self.install(self.wheel({"thing.py": ""}))
        before = list(sys.path)
        try:
            sys.path[:] = ["/agent.pyz", "/usr/lib/python3.7", "/usr/lib/python3/dist-packages"]
            wheels.use(self.site)
            wheels.use(self.site)
            self.assertEqual(sys.path[2:], [os.path.join(self.site, found["folder"]), "/usr/lib/python3/dist-packages"])
        finally:
            sys.path[:] = before

    def test_the_agent_provisions_and_its_next_process_sees_the_versions(self):
        path = self.wheel({"numpy/__init__.py": "__version__ = '99.0'\n"}, "numpy-99.0-py3-none-any.whl")
        asked = {"wheels": {path: fixtures.sha256(path)}, "versions": {"numpy": "99.0"}, "limit_bytes": 1 << 20}
        here = os.getcwd()
        try:
            os.chdir(self.root)
            environment = {"PYTHONPATH": os.pathsep.join([here if not entry else entry for entry in sys.path])}
            code, result, stderr = fixtures.run_agent(self.root, fixtures.job(self.root, "provision", **asked), environment)
            self.assertEqual((code, result["reason"]), (0, ""), stderr)
            code, result, stderr = fixtures.run_agent(self.root, fixtures.job(self.root, "doctor"), environment)
            self.assertEqual(result["facts"]["doctor"]["provisioned"]["versions"], {"numpy": "99.0"}, stderr)
        finally:
            os.chdir(here)


if __name__ == "__main__":
    unittest.main()
