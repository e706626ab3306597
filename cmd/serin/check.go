package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"serin.dev/serin/analysis/openslo"
	"serin.dev/serin/analysis/policyfile"
)

// check reads a configuration, a policy, a rollout or OpenSLO files as serve
// would, and reports all faults. All but configurations say at their head what they
// are; a folder has OpenSLO files.
func check(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	rest, err := parse(fs, args, 1, stderr)
	if err != nil {
		return err
	}
	if info, err := os.Stat(rest[0]); err == nil && info.IsDir() {
		return checkObjectives(rest[0], stdout, stderr)
	}
	data, err := os.ReadFile(rest[0])
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if openslo.Is(data) {
		return checkObjectives(rest[0], stdout, stderr)
	}
	switch kind, _ := policyfile.Kind(data); kind {
	case "":
	case policyfile.KindPolicy:
		p, err := policyfile.Policy(rest[0], data)
		if err != nil {
			return told(err)
		}
		fmt.Fprintf(stdout, "%s: policy %s, version %d, %d stages, no faults\n", rest[0], p.Name, p.Revision, len(p.Stages))
		return nil
	case policyfile.KindRollout:
		r, err := policyfile.Rollout(rest[0], data)
		if err != nil {
			return told(err)
		}
		fmt.Fprintf(stdout, "%s: rollout %s of %s, %d stages, no faults\n", rest[0], r.ID, r.App, len(r.Stages))
		return nil
	default:
		return fmt.Errorf("%s: kind: %q: want policy, rollout, or none for a configuration", rest[0], kind)
	}
	c, err := loadConfig(rest[0])
	if err != nil {
		return err
	}
	if _, err := c.directory(); err != nil {
		return fmt.Errorf("%s:\n%w", rest[0], err)
	}
	if _, err := c.policies(); err != nil {
		return fmt.Errorf("%s:\n%w", rest[0], err)
	}
	_, notes, err := c.objectives()
	if err != nil {
		return fmt.Errorf("%s:\n%w", rest[0], err)
	}
	for _, n := range notes {
		fmt.Fprintln(stderr, "note:", n)
	}
	fmt.Fprintf(stdout, "%s: %d tenants, no faults\n", rest[0], len(c.Tenants))
	return nil
}

// told begins a list of faults on a line of its own.
func told(err error) error { return fmt.Errorf("faults:\n%w", err) }
