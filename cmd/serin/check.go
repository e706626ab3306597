package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/openslo"
	"serin.dev/serin/analysis/policyfile"
	"serin.dev/serin/analysis/yamlfile"
)

// check reads a configuration, or policies, rollouts and OpenSLO objects from files and
// folders, as serve and apply would, and reports all their faults. Policies and
// rollouts say at their head what they are. Of objectives it tells when their alerts
// burn.
func check(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	rest, err := parseSome(fs, args, stderr, "FILE|FOLDER...")
	if err != nil {
		return err
	}
	info, err := os.Stat(rest[0])
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if len(rest) > 1 || info.IsDir() {
		return checkMany(rest, stdout)
	}
	data, err := os.ReadFile(rest[0])
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	switch kind, _ := policyfile.Kind(data); {
	case openslo.Is(data):
		return checkMany(rest, stdout)
	case holdsNothing(data):
		return fmt.Errorf("%s: it holds nothing: want a configuration, a policy, a rollout or objects of %s", rest[0], openslo.Version)
	case kind == "":
	case kind == policyfile.KindPolicy:
		p, err := policyfile.Policy(rest[0], data)
		if err != nil {
			return told(err)
		}
		fmt.Fprintf(stdout, "%s: policy %s, version %d, %d stages, no faults\n", rest[0], p.Name, p.Revision, len(p.Stages))
		return nil
	case kind == policyfile.KindRollout:
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
		fmt.Fprintln(stdout, "note:", n)
	}
	fmt.Fprintf(stdout, "%s: %d tenants, no faults\n", rest[0], len(c.Tenants))
	return nil
}

// holdsNothing reports whether a file is empty but for comments.
func holdsNothing(data []byte) bool {
	roots, err := yamlfile.Documents(data)
	return err == nil && !slices.ContainsFunc(roots, func(n *yaml.Node) bool { return n.Tag != "!!null" })
}

// checkMany checks files that are applied together.
func checkMany(paths []string, stdout io.Writer) error {
	steps, err := readFiles(paths)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	var files []string
	for _, s := range steps {
		kind := s.kind
		if slices.Contains(openslo.Kinds(), kind) {
			kind = "OpenSLO object"
			if !slices.Contains(files, s.file) {
				files = append(files, s.file)
			}
		}
		counts[kind]++
	}
	if len(files) > 0 {
		objectives, notes, err := readObjectives(files)
		if err != nil {
			return told(err)
		}
		for _, n := range notes {
			fmt.Fprintln(stdout, "note:", n)
		}
		printReaches(stdout, objectives)
		counts["objective"] = len(objectives)
	}
	var parts []string
	for _, kind := range []string{policyfile.KindPolicy, policyfile.KindRollout, "OpenSLO object", "objective"} {
		switch n := counts[kind]; {
		case n == 0:
		case kind == policyfile.KindPolicy && n > 1:
			parts = append(parts, fmt.Sprintf("%d policies", n))
		default:
			parts = append(parts, plural(n, kind))
		}
	}
	fmt.Fprintf(stdout, "%s: %s, no faults\n", strings.Join(paths, ", "), strings.Join(parts, ", "))
	return nil
}

// told begins a list of faults on a line of its own.
func told(err error) error { return fmt.Errorf("faults:\n%w", err) }
