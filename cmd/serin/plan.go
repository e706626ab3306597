package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/openslo"
	"serin.dev/serin/analysis/policyfile"
	"serin.dev/serin/analysis/slo"
)

// documentKinds are the kinds of files that a server keeps for its tenants, each
// with its check.
var documentKinds = func() map[string]func(text []byte) (name string, err error) {
	kinds := map[string]func(text []byte) (name string, err error){
		analysis.KindPolicy: func(text []byte) (string, error) {
			p, err := parsePolicy(text)
			return p.Name, err
		},
	}
	for _, kind := range openslo.Kinds() {
		kinds[kind] = func(text []byte) (string, error) {
			got, name, err := openslo.Head("text", text)
			if err == nil && got != kind {
				err = fmt.Errorf("text: kind: %s: want %s", got, kind)
			}
			return name, err
		}
	}
	return kinds
}()

func parsePolicy(text []byte) (canary.Policy, error) { return policyfile.Policy("text", text) }

// parseObjects makes objectives of the OpenSLO objects that a server keeps.
func parseObjects(docs []analysis.Document) ([]slo.Objective, []string, error) {
	var files []*openslo.File
	var faults []error
	for _, d := range docs {
		f, err := openslo.Parse(d.Kind+"/"+d.Name, []byte(d.Text))
		if err != nil {
			faults = append(faults, err)
			continue
		}
		files = append(files, f)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, nil, err
	}
	objectives, notes, err := openslo.Compile(files...)
	told := []string{}
	for _, n := range notes {
		told = append(told, n.String())
	}
	return objectives, told, err
}

// step is one thing that apply would do.
type step struct {
	do         string // create, change, remove, keep
	kind, name string
	file, text string
	line       int // in the file, where there may be several
	basis      uint64
	from, to   string // what is told of it: versions, counts
	rollout    *canary.Rollout
	lines      []string // of a change, those that differ
}

// remote is the server that a plan is made against.
type remote struct{ server, token string }

// flags adds those that name a server. role is the one whose token is needed.
func (r remote) flags(fs *flag.FlagSet, role string) (server, token *string) {
	return fs.String("server", envOr("SERIN_SERVER", "http://127.0.0.1:8711"), "`URL` of the server (SERIN_SERVER)"),
		fs.String("token", "", role+" `token`; better given as SERIN_TOKEN, which other users of the machine do not see")
}

func (r remote) read(ctx context.Context, path string, v any) error {
	raw, err := get(ctx, r.server+path, r.token)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

func (r remote) send(ctx context.Context, method, path string, body any) ([]byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return call(ctx, method, r.server+path, r.token, bytes.NewReader(raw))
}

// plan shows what apply would do.
func plan(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("plan", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "viewer's")
	prune := f.Bool("prune", false, "remove documents that are in none of the files")
	files, err := parseSome(f, args, stderr, "FILE|FOLDER...")
	if err != nil {
		return err
	}
	r.server, r.token = *server, *token
	if r.token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
	steps, live, err := r.plan(ctx, files, *prune)
	if err != nil {
		return err
	}
	printPlan(stdout, steps, live)
	done, err := r.apply(ctx, steps, true)
	printNotes(stdout, done.Notes)
	return err
}

// apply does what plan shows, or goes back to what was after an earlier change.
func apply(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("apply", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "releaser's")
	prune := f.Bool("prune", false, "remove documents that are in none of the files")
	shadow := f.Bool("shadow", false, "try each policy beside the active one of the rollouts under way that name it, and change nothing else of them")
	back := f.Int64("back", 0, "make all documents what they were after the change of this `number`; 0: before the first; an admin's token is needed")
	files, err := parseSome(f, args, stderr, "FILE|FOLDER... | --back NUMBER")
	goesBack := isGiven(f, "back")
	switch {
	case err != nil && !(errors.Is(err, errNoFiles) && goesBack):
		return err
	case goesBack && *back < 0:
		fmt.Fprintf(stderr, "serin apply: back: %d: want the number of a change, or 0\n", *back)
		return errUsage
	}
	r.server, r.token = *server, *token
	if r.token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
	if goesBack {
		if len(files) > 0 {
			fmt.Fprintln(stderr, "serin apply: back: want no files beside it")
			return errUsage
		}
		raw, err := r.send(ctx, http.MethodPost, "/v1/documents/back", map[string]int64{"number": *back})
		if err != nil {
			return err
		}
		var made struct{ Changes []analysis.Change }
		if err := json.Unmarshal(raw, &made); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		for _, c := range made.Changes {
			fmt.Fprintf(stdout, "%d\t%s %s is what it was after change %d\n", c.Number, c.Kind, c.Name, *back)
		}
		return nil
	}
	steps, live, err := r.plan(ctx, files, *prune)
	if err != nil {
		return err
	}
	printPlan(stdout, steps, live)
	done, err := r.apply(ctx, steps, false)
	if err != nil {
		return fmt.Errorf("%w; nothing is applied", err)
	}
	printNotes(stdout, done.Notes)
	for _, c := range done.Changes {
		fmt.Fprintf(stdout, "change %d: %s %s\n", c.Number, c.Kind, c.Name)
	}
	for _, id := range done.Rollouts {
		fmt.Fprintf(stdout, "created rollout %s\n", id)
	}
	if !*shadow {
		return nil
	}
	for _, s := range steps {
		if s.kind != analysis.KindPolicy || s.do != "change" {
			continue
		}
		for _, id := range live[s.name] {
			if _, err := r.send(ctx, http.MethodPost, "/v1/rollouts/"+url.PathEscape(id)+"/shadow", map[string]any{"policy": map[string]string{"name": s.name}}); err != nil {
				return fmt.Errorf("all is applied; try policy %s beside that of rollout %s: %w", s.name, id, err)
			}
			fmt.Fprintf(stdout, "tried beside the active policy of %s\n", id)
		}
	}
	return nil
}

// apply has the server do all steps at once, or only check them.
func (r remote) apply(ctx context.Context, steps []step, check bool) (analysis.Applied, error) {
	var done analysis.Applied
	body := struct {
		Changes  []analysis.Edit  `json:"changes"`
		Rollouts []canary.Rollout `json:"rollouts"`
	}{[]analysis.Edit{}, []canary.Rollout{}}
	for _, s := range steps {
		switch {
		case s.do == "keep":
		case s.rollout != nil:
			body.Rollouts = append(body.Rollouts, *s.rollout)
		default:
			body.Changes = append(body.Changes, analysis.Edit{Kind: s.kind, Name: s.name, Text: s.text, Basis: s.basis})
		}
	}
	if len(body.Changes)+len(body.Rollouts) == 0 {
		return done, nil
	}
	path := "/v1/documents"
	if check {
		path += "/check"
	}
	raw, err := r.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return done, err
	}
	if err := json.Unmarshal(raw, &done); err != nil {
		return done, fmt.Errorf("read the server's answer: %w", err)
	}
	return done, nil
}

func printNotes(w io.Writer, notes []string) {
	for _, n := range notes {
		fmt.Fprintln(w, "note:", n)
	}
}

// audit lists who changed what, and when.
func audit(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("audit", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "viewer's")
	asJSON := f.Bool("json", false, "print JSON, with what was before and after")
	if _, err := parse(f, args, 0, stderr); err != nil {
		return err
	}
	r.server, r.token = *server, *token
	if r.token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
	var list struct{ Changes []analysis.Change }
	if err := r.read(ctx, "/v1/documents/changes", &list); err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(stdout).Encode(list.Changes)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHANGE\tAT\tWHO\tWHAT\t")
	for _, c := range list.Changes {
		what := "changed"
		switch {
		case c.Before == "":
			what = "created"
		case c.After == "":
			what = "removed"
		}
		if c.Back > 0 {
			what += fmt.Sprintf(", back to after change %d", c.Back)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s %s: %s\t\n", c.Number, c.At.Format(time.RFC3339), c.Who, c.Kind, c.Name, what)
	}
	return w.Flush()
}

var errNoFiles = fmt.Errorf("no files: %w", errUsage)

// parseSome parses flags around one argument or more.
func parseSome(f *flag.FlagSet, args []string, stderr io.Writer, usage string) ([]string, error) {
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: serin %s %s\n", f.Name(), usage)
		f.PrintDefaults()
	}
	rest, err := words(f, args, stderr)
	if err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		if !isGiven(f, "back") {
			f.Usage()
		}
		return nil, errNoFiles
	}
	return rest, nil
}

// isGiven reports whether a flag stands among the arguments.
func isGiven(f *flag.FlagSet, name string) (given bool) {
	f.Visit(func(one *flag.Flag) { given = given || one.Name == name })
	return given
}

// plan reads the files, all faults of all of them together, and compares them
// with what the server has. live are the rollouts under way by the policy that
// they name.
func (r remote) plan(ctx context.Context, files []string, prune bool) (steps []step, live map[string][]string, err error) {
	wanted, err := readFiles(files)
	if err != nil {
		return nil, nil, err
	}
	var have struct{ Documents []analysis.Document }
	if err := r.read(ctx, "/v1/documents", &have); err != nil {
		return nil, nil, err
	}
	var changes struct{ Changes []analysis.Change }
	if err := r.read(ctx, "/v1/documents/changes", &changes); err != nil {
		return nil, nil, err
	}
	var running struct{ Rollouts []analysis.Status }
	if err := r.read(ctx, "/v1/rollouts", &running); err != nil {
		return nil, nil, err
	}
	live = map[string][]string{}
	for _, s := range running.Rollouts {
		if name := s.Rollout.Policy.Name; name != "" && !s.Ended {
			live[name] = append(live[name], s.Rollout.ID)
		}
	}
	for _, w := range wanted {
		w.do = "create"
		if w.rollout != nil {
			for _, s := range running.Rollouts {
				if s.Rollout.ID == w.name {
					w.do, w.from = "keep", "registered "+s.Created.Format(time.RFC3339)+"; a rollout that is registered is not changed"
				}
			}
			steps = append(steps, w)
			continue
		}
		for _, c := range changes.Changes { // newest first; a removed one counts, too
			if c.Kind == w.kind && c.Name == w.name {
				w.basis = c.Number
				break
			}
		}
		for _, d := range have.Documents {
			if d.Kind != w.kind || d.Name != w.name {
				continue
			}
			w.do, w.from = "change", fmt.Sprintf("change %d by %s", d.Number, d.Who)
			if d.Text == w.text {
				w.do = "keep"
			}
			w.lines = differ(d.Text, w.text)
		}
		steps = append(steps, w)
	}
	if !prune {
		return steps, live, nil
	}
	for _, d := range have.Documents {
		if !slices.ContainsFunc(wanted, func(w step) bool { return w.rollout == nil && w.kind == d.Kind && w.name == d.Name }) {
			steps = append(steps, step{do: "remove", kind: d.Kind, name: d.Name, basis: d.Number, from: fmt.Sprintf("change %d by %s", d.Number, d.Who)})
		}
	}
	return steps, live, nil
}

// readFiles reads files, and all YAML files of folders. That there is none is a fault.
func readFiles(paths []string) (steps []step, err error) {
	names, err := yamlFiles(paths)
	var faults []error
	if err != nil {
		faults = append(faults, err)
	}
	if len(names)+len(faults) == 0 { // with --prune this would remove all that there is
		return nil, fmt.Errorf("%s: no YAML files: want at least one", strings.Join(paths, ", "))
	}
	seen := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		of, err := stepsOf(name, text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for _, s := range of {
			s.file = name
			key := s.kind + " " + s.name
			at := name
			if s.line > 0 {
				at += ":" + strconv.Itoa(s.line)
			}
			if first, ok := seen[key]; ok {
				faults = append(faults, fmt.Errorf("%s: %s: want each once; it is in %s too", at, key, first))
				continue
			}
			seen[key] = at
			steps = append(steps, s)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, told(err)
	}
	// Policies come first: rollouts may name them.
	slices.SortStableFunc(steps, func(a, b step) int { return strings.Compare(a.kind, b.kind) })
	return steps, nil
}

// stepsOf reads what a file has: a policy, a rollout, or OpenSLO objects, of which each
// is kept by itself.
func stepsOf(name string, text []byte) ([]step, error) {
	if openslo.Is(text) {
		objects, err := openslo.Split(name, text)
		var steps []step
		for _, o := range objects {
			steps = append(steps, step{text: o.Text, kind: o.Kind, name: o.Name, line: o.Line})
		}
		return steps, err
	}
	s := step{text: string(text)}
	var err error
	if s.kind, err = policyfile.Kind(text); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err) // whatever kind it names, it is no YAML
	}
	switch s.kind {
	case policyfile.KindPolicy:
		var p canary.Policy
		if p, err = policyfile.Policy(name, text); err == nil {
			s.name, s.to = p.Name, fmt.Sprintf("version %d", p.Revision)
		}
	case policyfile.KindRollout:
		var ro canary.Rollout
		if ro, err = policyfile.RolloutAsWritten(name, text); err == nil {
			s.name, s.rollout, s.to = ro.ID, &ro, fmt.Sprintf("%d stages", len(ro.Stages))
		}
	default:
		err = fmt.Errorf("%s: kind: %q: want %s, %s, or objects of %s", name, s.kind, policyfile.KindPolicy, policyfile.KindRollout, openslo.Version)
	}
	return []step{s}, err
}

// differ returns the lines that are in one text and not in the other, each with
// a sign: what a person looks for, and no more than that.
func differ(before, after string) (lines []string) {
	count := func(text string) map[string]int {
		n := map[string]int{}
		for line := range strings.Lines(text) {
			n[strings.TrimRight(line, "\r\n")]++
		}
		return n
	}
	show := func(text, sign string, other map[string]int) {
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\r\n")
			if other[line]--; other[line] < 0 {
				lines = append(lines, sign+" "+line)
			}
		}
	}
	b, a := count(before), count(after)
	show(before, "-", a)
	show(after, "+", b)
	return lines
}

func printPlan(w io.Writer, steps []step, live map[string][]string) {
	n := 0
	for _, s := range steps {
		detail := strings.Join(slices.DeleteFunc([]string{s.to, s.from}, func(t string) bool { return t == "" }), "; ")
		if detail != "" {
			detail = " (" + detail + ")"
		}
		fmt.Fprintf(w, "%-7s %s %s%s\n", s.do, s.kind, s.name, detail)
		for _, line := range s.lines {
			fmt.Fprintf(w, "          %s\n", line)
		}
		if s.do == "keep" {
			continue
		}
		n++
		if ids := live[s.name]; s.kind == analysis.KindPolicy && len(ids) > 0 {
			fmt.Fprintf(w, "          %s under way keep what they were registered with: %s\n", plural(len(ids), "rollout"), strings.Join(ids, ", "))
		}
	}
	fmt.Fprintf(w, "%s\n", plural(n, "change"))
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
