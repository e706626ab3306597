package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/openslo"
	"serin.dev/serin/analysis/slo"
)

// objectiveFiles parses OpenSLO files: one, or those of a folder that end in .yaml
// or .yml, in the order of their names. All faults of all files are told together.
func objectiveFiles(path string) ([]*openslo.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	names := []string{path}
	if info.IsDir() {
		names = nil
		for _, pattern := range []string{"*.yaml", "*.yml"} {
			found, err := filepath.Glob(filepath.Join(path, pattern))
			if err != nil {
				return nil, fmt.Errorf("folder %q: %w", path, err)
			}
			names = append(names, found...)
		}
		slices.Sort(names)
		if len(names) == 0 {
			return nil, fmt.Errorf("folder %s: no file that ends in .yaml or .yml", path)
		}
	}
	var files []*openslo.File
	var faults []error
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		f, err := openslo.Parse(name, data)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		files = append(files, f)
	}
	return files, errors.Join(faults...)
}

// objectives reads the objectives of all tenants, and reports all faults of all
// files together.
func (c *config) objectives() (analysis.Objectives, []openslo.Note, error) {
	all := analysis.Objectives{}
	var notes []openslo.Note
	var faults []error
	for i, t := range c.Tenants {
		if t.Objectives == "" {
			continue
		}
		files, err := objectiveFiles(t.Objectives)
		if err != nil {
			faults = append(faults, fmt.Errorf("tenants[%d].objectives: %w", i, err))
			continue
		}
		os, more, err := openslo.Compile(files...)
		if err != nil {
			faults = append(faults, fmt.Errorf("tenants[%d].objectives:\n%w", i, err))
			continue
		}
		all[t.ID], notes = os, append(notes, more...)
	}
	return all, notes, errors.Join(faults...)
}

// checkObjectives checks OpenSLO files alone and says what would come of them.
func checkObjectives(path string, stdout, stderr io.Writer) error {
	files, err := objectiveFiles(path)
	if err != nil {
		return told(err)
	}
	all, notes, err := openslo.Compile(files...)
	if err != nil {
		return told(err)
	}
	for _, n := range notes {
		fmt.Fprintln(stderr, "note:", n)
	}
	objects := 0
	for _, f := range files {
		objects += f.Objects()
	}
	for i := range all {
		printObjective(stdout, &all[i])
	}
	fmt.Fprintf(stdout, "%s: %d objects, %d objectives, no faults\n", path, objects, len(all))
	return nil
}

// printObjective says in words what an objective is, and when its alerts burn.
func printObjective(w io.Writer, o *slo.Objective) {
	fmt.Fprintf(w, "%s: %.6g %% of %ss of %s good, %s, %s\n", o.Name, 100*o.Target, o.Unit, o.App, o.Method, o.Window)
	for _, a := range o.Alerts {
		switch a.Form {
		case slo.FormTrickle:
			fmt.Fprintf(w, "  %s %s: once a sequential test says that it fails for good\n", a.Severity, a.Name)
		case slo.FormExcess:
			fmt.Fprintf(w, "  %s %s: from %.4g %% bad over what is usual, in %v and in %v\n", a.Severity, a.Name, 100*a.Threshold*o.Budget(), a.Long, a.Short)
		default:
			fmt.Fprintf(w, "  %s %s: from %.4g %% bad, in %v and in %v: %.3g %% of the budget in the longer\n", a.Severity, a.Name, 100*a.Threshold*o.Budget(), a.Long, a.Short,
				100*a.Threshold*float64(a.Long)/float64(o.Window.Period()))
		}
	}
}
