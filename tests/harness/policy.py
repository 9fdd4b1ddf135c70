# SPDX-License-Identifier: MIT
"""What tests of policy files share: a file that changes under a compositor that obeys it."""

import contextlib
import json
import pathlib
import signal
import tempfile

ALLOW = {'default': {'min-guarantee': 'guarded'}}
DENY = {'default': {'deny': True}}
WRONG = '{ "rules": [\n  { "exectuable": "/usr/bin/x" } ] }\n'


class Policy:
    """A file, and the compositor that has it."""

    def __init__(self, directory, policy, start, log):
        self.path, self.log = pathlib.Path(directory) / 'policy.json', log
        self.write(policy)
        self.compositor = start(str(self.path))

    def write(self, policy):
        """As editors do: another file takes the place."""
        text = policy if isinstance(policy, str) else json.dumps(policy)
        new = self.path.with_suffix('.new')
        new.write_text(text)
        new.rename(self.path)

    def hang_up(self):
        """Has it read again. Returns what the compositor says."""
        n_before = len(self.compositor.read(self.log).splitlines())
        self.compositor.process.send_signal(signal.SIGHUP)
        for i, line in enumerate(self.compositor.follow(self.log)):
            if i >= n_before and self.path.name in line:
                return line
        return ''

    def shot(self, *command, status=0):
        return self.compositor.run(*(command or ('vitrine',)), 'shot', 'shot.png', status=status)

    def allowed(self):
        output = self.compositor.run('vitrine', 'probe', '--json').stdout
        return set(json.loads(output)['compositor']['guarantees'])


def list_sessions(compositor):
    return json.loads(compositor.run('vitrine', 'sessions', '--json').stdout)['sessions']


@contextlib.contextmanager
def policy_fixture(policy, start, log):
    """`start` makes the compositor, of the path of the file; `log` is where it tells of that."""
    with tempfile.TemporaryDirectory(prefix='vitrine-policy.') as directory:
        one = Policy(directory, policy, start, log)
        with one.compositor:
            yield one
