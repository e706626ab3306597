package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unsafe"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/plot"
	"serin.dev/serin/internal/store/segment"
)

// explain prints what a rollout's verdict rests on: from a server, or, like
// backtest, from segments alone.
func explain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("explain", flag.ContinueOnError)
	server := fs.String("server", envOr("SERIN_SERVER", "http://127.0.0.1:8711"), "`URL` of the server (SERIN_SERVER)")
	token := fs.String("token", "", "viewer's `token`; better given as SERIN_TOKEN, which other users of the machine do not see")
	segments := fs.String("segments", "", "`folder` of segments to read in place of a server")
	tenantName := fs.String("tenant", "", "`tenant` of the rollout, for segments")
	width := fs.Int("width", 0, "`characters` in a line; default the terminal's, or 100")
	svg := fs.String("svg", "", "`file` to draw the evidence in too, as SVG")
	asJSON := fs.Bool("json", false, "print the evidence as JSON")
	rest, err := parse(fs, args, 1, stderr)
	if err != nil {
		return err
	}
	if *width < 0 || *width > 1000 {
		fmt.Fprintf(stderr, "serin explain: width: %d: want 0 to 1000\n", *width)
		return errUsage
	}
	var ev analysis.Evidence
	if *segments != "" {
		if *tenantName == "" {
			fmt.Fprintln(stderr, "serin explain: tenant: \"\": want the tenant of the rollout, for segments")
			return errUsage
		}
		s, err := segment.OpenReadOnly(*segments)
		if err != nil {
			return err
		}
		if ev, err = analysis.Explain(ctx, s, *tenantName, rest[0]); err != nil {
			return err
		}
	} else {
		if *token == "" {
			*token = os.Getenv("SERIN_TOKEN")
		}
		raw, err := get(ctx, *server+"/v1/rollouts/"+url.PathEscape(rest[0])+"/evidence", *token)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &ev); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
	}
	chart := evidenceChart(&ev)
	if *svg != "" {
		if err := os.WriteFile(*svg, chart.SVG(), 0o644); err != nil {
			return fmt.Errorf("write drawing: %w", err)
		}
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", " ")
		return enc.Encode(ev)
	}
	columns, terminal := terminalWidth(stdout)
	if *width == 0 {
		*width = cmp.Or(columns, envInt("COLUMNS"), 100)
	}
	printEvidence(stdout, &ev, chart, *width, terminal && os.Getenv("NO_COLOR") == "")
	return nil
}

// terminalWidth returns how many columns a terminal has, and whether w is one.
func terminalWidth(w io.Writer) (columns int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile {
		return 0, false
	}
	var size struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	return int(size.columns), errno == 0
}

// envInt reads a variable that is a positive number, or 0.
func envInt(name string) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// marks draw the guardrails in a terminal, in the order of their findings.
const marks = "elicrtvwxyz"

// evidenceChart has the evidence of harm of the rollout and of each guardrail,
// and the weakest proof of safety.
func evidenceChart(ev *analysis.Evidence) *plot.Chart {
	v := &ev.Verdict
	c := &plot.Chart{Title: fmt.Sprintf("Evidence on %s of %s, stage %d", ev.Rollout.ID, ev.Rollout.App, ev.Stage), Unit: "ln e", Lo: -12, Hi: 4 * v.LogNeeded,
		Limits: []plot.Limit{{Name: fmt.Sprintf("rollback at %.3g", v.LogNeeded), Y: v.LogNeeded}, {Name: fmt.Sprintf("safe at %.3g", math.Log(1/ev.Rollout.Policy.Beta)), Y: math.Log(1 / ev.Rollout.Policy.Beta)}}}
	if c.Hi <= c.Lo { // a verdict that was never given has no threshold
		c.Hi = 20
	}
	harm, safe := plot.Line{Name: "harm, all", Mark: '#'}, plot.Line{Name: "weakest safety", Mark: 's'}
	var each []plot.Line
	for i, f := range v.Findings {
		each = append(each, plot.Line{Name: "harm " + f.Guardrail, Mark: rune(marks[i%len(marks)])})
	}
	for _, p := range ev.Trace {
		c.Times = append(c.Times, time.UnixMilli(p.At))
		harm.Y = append(harm.Y, p.LogEHarm)
		safe.Y = append(safe.Y, p.LogESafe)
		for i, f := range v.Findings {
			y := math.NaN()
			if g, ok := p.Guardrails[f.Guardrail]; ok {
				y = g.LogEHarm
			}
			each[i].Y = append(each[i].Y, y)
		}
	}
	// The terminal shows the last line that comes to a place: the whole.
	c.Lines = append(each, safe, harm)
	return c
}

// maxPlaces is how many strata, and how many customers, are printed: those with
// the strongest evidence of harm.
const maxPlaces = 12

func printEvidence(w io.Writer, ev *analysis.Evidence, chart *plot.Chart, width int, color bool) {
	v := &ev.Verdict
	bold, red, plain := "", "", ""
	if color {
		bold, red, plain = "\x1b[1m", "\x1b[31m", "\x1b[0m"
	}
	fmt.Fprintf(w, "%s%s%s\n", bold, strings.Join(wrap(v.Sentence, width), "\n"), plain)
	policy := v.Policy
	if v.PolicyName != "" {
		policy = fmt.Sprintf("%s version %d (%s)", v.PolicyName, v.Revision, v.Policy)
	}
	ended := ""
	if ev.Ended {
		ended = ", ended"
	}
	for _, l := range wrap(fmt.Sprintf("Verdict %d, %s, of %s; policy %s; stage %d of %d at %.3g %%%s; ln e of harm %s, rolled back at %.3g; ln e of the sample ratio %s.",
		v.Number, v.Decision, v.IssuedAt.Format(time.RFC3339), policy, ev.Stage+1, len(ev.Rollout.Stages), 100*v.Weight, ended, figure(v.LogEHarm), v.LogNeeded, figure(v.LogERatio)), width) {
		fmt.Fprintln(w, l)
	}
	for _, b := range v.Budgets {
		for _, l := range wrap(fmt.Sprintf("Error budget: %s.", b.Why), width) {
			fmt.Fprintln(w, l)
		}
	}
	if v.Spend != nil {
		for _, l := range wrap(spending(v.Spend), width) {
			fmt.Fprintln(w, l)
		}
	}
	if a := ev.Aftermath; a != nil {
		mark, end := "", ""
		if a.Ineffective {
			mark, end = red, plain
		}
		for _, l := range wrap(fmt.Sprintf("%s ln e that it has no effect %s, alerted of at %.3g.", a.Sentence, figure(a.LogE), a.Needed), width) {
			fmt.Fprintf(w, "%s%s%s\n", mark, l, end)
		}
	}
	if v.Network.Judged && v.Network.Prefix != "" {
		fmt.Fprintf(w, "Without network %s: ln e %s.\n", v.Network.Prefix, figure(v.Network.LogE))
	}
	fmt.Fprintln(w)
	table(w, "GUARDRAIL", v.Findings, func(f *verdict.Finding) string {
		if f.Direction != "" {
			return f.Guardrail + " (" + f.Direction + ")"
		}
		return f.Guardrail
	}, true, red, plain)
	places := func(title string, customer bool) {
		var rows []verdict.Finding
		sessions := ev.Places
		if customer {
			sessions = ev.Parts
		}
		for _, p := range sessions {
			for _, f := range p.Findings {
				f.Blamed = slices.ContainsFunc(v.Blame, func(b verdict.Finding) bool {
					return b.Blamed && b.Guardrail == f.Guardrail && b.Stratum == f.Stratum && b.Customer == f.Customer
				})
				rows = append(rows, f)
			}
		}
		if len(rows) == 0 {
			return
		}
		slices.SortStableFunc(rows, func(a, b verdict.Finding) int { return cmp.Compare(b.LogEHarm, a.LogEHarm) })
		left := max(len(rows)-maxPlaces, 0)
		fmt.Fprintln(w)
		table(w, title, rows[:len(rows)-left], func(f *verdict.Finding) string { return f.Stratum + f.Customer + "  " + f.Guardrail }, false, red, plain)
		if left > 0 {
			fmt.Fprintf(w, "and %d more with less evidence\n", left)
		}
	}
	places("STRATUM", false)
	places("CUSTOMER", true)
	if len(v.Losses) > 0 {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "LOSS\tCANARY\tBASELINE\tODDS RATIO\tLN E UNLIKE\t")
		for _, l := range v.Losses {
			fmt.Fprintf(t, "%s\t%d of %d\t%d of %d\t%s\t%s\t\n", l.Name, l.Lost.Canary, l.Sessions.Canary, l.Lost.Baseline, l.Sessions.Baseline, figure(l.Ratio), figure(l.LogE))
		}
		_ = t.Flush() // a writer that is gone is no fault of ours
	}
	if ev.Exposure != nil {
		fmt.Fprintln(w)
		printMeter(w, ev.Exposure, width)
	}
	fmt.Fprintln(w)
	fmt.Fprint(w, chart.Text(width, 16))
	if len(ev.History) > 0 {
		fmt.Fprintln(w)
	}
	for i := range ev.History {
		h := &ev.History[i]
		fmt.Fprintf(w, "%3d  %s  stage %d  %-8s  %s\n", h.Number, h.IssuedAt.Format("2006-01-02 15:04:05"), h.Stage, h.Decision, h.Reasons[0].Code)
	}
	for i := range ev.Shadows {
		h := &ev.Shadows[i]
		fmt.Fprintf(w, "%3d  %s  stage %d  %-8s  %s  (shadow of policy %s)\n", h.Number, h.IssuedAt.Format("2006-01-02 15:04:05"), h.Stage, h.Decision, h.Reasons[0].Code, cmp.Or(h.PolicyName, h.Policy))
	}
}

// spending says what a rollout spent of its own part of an error budget.
func spending(s *verdict.Spend) string {
	text := fmt.Sprintf("Of the %s bad that the budget of %s allows in a window the rollout may spend %s; its excess is %s (%s to %s), of %d bad.",
		figure(verdict.Bound(math.Round(s.Allowed))), s.SLO, figure(verdict.Bound(math.Round(s.Limit))), figure(s.Excess), figure(s.Lo), figure(s.Hi), s.Bad)
	if a := s.Alone; a != nil {
		text += fmt.Sprintf(" Without network %s, of %d units on the canary, %d of them bad, and %d on the baseline, it is at least %s.", a.Prefix, a.Canary, a.Bad, a.Baseline, figure(a.Lo))
	}
	if s.Refused != "" {
		text += " Nothing is decided on it: " + s.Refused + "."
	}
	return text
}

// table prints findings, those to blame marked.
func table(w io.Writer, title string, rows []verdict.Finding, name func(*verdict.Finding) string, safe bool, red, plain string) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "\t" + title + "\tFAILED CANARY\tBASELINE\tODDS RATIO\tINTERVAL\tLN E HARM\t"
	if safe {
		head += "LN E SAFE\tNEEDS\t"
	}
	fmt.Fprintln(t, head)
	for i := range rows {
		f := &rows[i]
		mark := ""
		if f.Blamed {
			mark = "!"
		}
		fmt.Fprintf(t, "%s\t%s\t%d of %d\t%d of %d\t%s\t%s to %s\t%s\t", mark, name(f), f.Failures.Canary, f.Sessions.Canary, f.Failures.Baseline, f.Sessions.Baseline,
			figure(f.Effect.Ratio), figure(f.Effect.Lo), figure(f.Effect.Hi), figure(f.LogEHarm))
		if safe {
			needs := ""
			if f.More != nil {
				needs = figure(f.More.Sessions) + " sessions"
			}
			fmt.Fprintf(t, "%s\t%s\t", figure(f.LogESafe), needs)
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // to memory
	for i, line := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n") {
		if i > 0 && rows[i-1].Blamed {
			line = red + line + plain
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// figure spells what may be unknown.
func figure(b verdict.Bound) string {
	switch x := float64(b); {
	case math.IsNaN(x), math.IsInf(x, 0):
		return "-"
	case math.Abs(x) >= 1000 || x == math.Trunc(x):
		return strconv.FormatFloat(x, 'f', 0, 64)
	default:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
}

// whole spells a count that may be unknown.
func whole(b verdict.Bound) string { return figure(verdict.Bound(math.Round(float64(b)) + 0)) }

// wrap breaks a text into lines of at most width characters, at its spaces.
func wrap(s string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
