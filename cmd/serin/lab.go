package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"serin.dev/serin/analysis/lab"
)

// experiments are the subcommands of lab.
var experiments = []command{
	{"aa", "[--world all]", "false rollbacks and false promotions, a look after every cell", labAA},
	{"power", "[--ratio 2,5] [--share 50,10]", "failures and minutes to the verdict, beside an oracle and the classical ways", labPower},
	{"late", "[--traffic 6,12]", "a harm whose failures are reported late, beside the same reported at once", labLate},
	{"coverage", "[--alpha 0.05]", "confidence sequences, looked at again and again: how often they hold the truth", labCoverage},
	{"ladder", "[--ratio 2,5] [--sessions 400]", "what a harmful change costs until it is rolled back: a fixed ladder, and shares that the exposure meter proposes", labLadder},
	{"silent", "", "canary clients that never boot: how often that is found, and falsely", labSilent},
	{"forged", "", "sessions forged by one network: what they can move", labForged},
	{"tenant", "", "one customer who is hurt: when the change is called, and who is named", labTenant},
	{"heavy", "", "repeated beacons and heavy senders: whether they move a verdict", labHeavy},
}

// labCommand simulates rollouts through the engine and counts what comes of
// them.
func labCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	usage := func(w io.Writer) {
		fmt.Fprintln(w, "usage: serin lab EXPERIMENT [flags]")
		for _, c := range experiments {
			fmt.Fprintf(w, "  %-8s %-32s %s\n", c.name, c.args, c.help)
		}
		fmt.Fprintln(w, "worlds of aa:")
		for _, name := range lab.WorldNames() {
			fmt.Fprintf(w, "  %-14s %s\n", name, lab.AboutWorld(name))
		}
	}
	if len(args) > 0 {
		switch args[0] {
		case "help", "-h", "-help", "--help":
			usage(stdout)
			return nil
		}
		for _, c := range experiments {
			if c.name == args[0] {
				return c.run(ctx, args[1:], stdout, stderr)
			}
		}
		fmt.Fprintf(stderr, "serin lab: no experiment %q\n", args[0])
	}
	usage(stderr)
	return errUsage
}

// labFlags are what all experiments have in common.
type labFlags struct {
	*flag.FlagSet
	options lab.Options
	asJSON  bool
}

func newLabFlags(name string, rollouts int, stderr io.Writer) *labFlags {
	f := &labFlags{FlagSet: flag.NewFlagSet("lab "+name, flag.ContinueOnError)}
	f.Uint64Var(&f.options.Seed, "seed", 1, "`number` that all draws come from")
	f.IntVar(&f.options.Rollouts, "rollouts", rollouts, "`number` of rollouts simulated for each row")
	f.StringVar(&f.options.Engine, "engine", "", fmt.Sprintf("`name` of one of %v: sessions go in as what they come to, or beacon by beacon, which takes three times as long", lab.Engines))
	f.IntVar(&f.options.Workers, "workers", 0, "`number` of rollouts simulated at once; 0: as many as there are cores; what is found does not depend on it")
	f.BoolVar(&f.asJSON, "json", false, "print a JSON list of rows")
	var told time.Time
	f.options.Progress = func(row string, done, of int) {
		if now := time.Now(); now.Sub(told) > 5*time.Second {
			told = now
			fmt.Fprintf(stderr, "serin lab: %s: %d of %d\n", row, done, of)
		}
	}
	return f
}

// start parses the flags and reports all faults of the experiment.
func (f *labFlags) start(args []string, stderr io.Writer, check func() error) error {
	if _, err := parse(f.FlagSet, args, 0, stderr); err != nil {
		return err
	}
	if err := check(); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "serin %s: %s\n", f.Name(), strings.TrimSpace(line))
		}
		return errUsage
	}
	return nil
}

// print writes rows as JSON, or as a table.
func printRows[T any](f *labFlags, stdout io.Writer, rows []T, header string, line func(r T) string) error {
	if f.asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", " ")
		return e.Encode(rows)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t")+"\t")
	for _, r := range rows {
		fmt.Fprintln(w, line(r)+"\t")
	}
	return w.Flush()
}

func labAA(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("aa", 10_000, stderr)
	e := lab.AA{}
	var names string
	f.Float64Var(&e.Alpha, "alpha", 0.01, "`bound` of the probability of a false rollback")
	f.Float64Var(&e.Beta, "beta", 0.05, "`bound` of the probability of a false promotion")
	f.StringVar(&names, "world", "all", fmt.Sprintf("`names` parted by commas, of %v, or all", lab.WorldNames()))
	err := f.start(args, stderr, func() error {
		e.Options = f.options
		if e.Worlds = strings.Split(names, ","); names == "all" {
			e.Worlds = lab.WorldNames()
		}
		return e.Check()
	})
	if err != nil {
		return err
	}
	rows, err := e.Run(ctx)
	if err != nil {
		return err
	}
	return printRows(f, stdout, rows, "world rollouts sessions failures false_rollbacks 99%_from to evidence ratio_alarms false_promotions 99%_from to", func(r lab.AARow) string {
		return fmt.Sprintf("%s\t%d\t%.0f\t%.0f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f", r.World, r.Rollouts, r.Sessions, r.Failures,
			r.FalseRollbackRate, r.FalseRollbackLower, r.FalseRollbackUpper, r.HarmEvidenceRate, r.RatioAlarmRate,
			r.FalsePromotionRate, r.FalsePromotionLow, r.FalsePromotionHigh)
	})
}

// numbers reads numbers parted by commas; one that is none is reported under
// the flag's name.
func numbers(name, text string) (out []float64, err error) {
	for part := range strings.SplitSeq(text, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: want numbers parted by commas", name, part)
		}
		out = append(out, v)
	}
	return out, nil
}

func labPower(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("power", 400, stderr)
	e := lab.Power{}
	var ratios, shares string
	f.Float64Var(&e.Alpha, "alpha", 0.01, "`bound` of the probability of a false rollback")
	f.StringVar(&ratios, "ratio", "1.2,1.5,2,3,5", "`ratios` of failure probabilities, parted by commas, above 1")
	f.StringVar(&shares, "share", "50,10,1", "`shares` of the canary in %, parted by commas")
	f.Float64Var(&e.Rate, "failure-rate", 0.02, "the baseline's failure `probability` at most; it is less where traffic would be too thin")
	f.Float64Var(&e.Sessions, "sessions", 400, "`sessions` a minute at least")
	f.DurationVar(&e.Epoch, "epoch", 5*time.Second, "`length` of the groups in which sessions are compared, of which a minute is a multiple")
	f.BoolVar(&e.Rivals, "rivals", true, "the classical ways, too; without them it takes half the time")
	err := f.start(args, stderr, func() error {
		var err, err2 error
		e.Options = f.options
		e.Ratios, err = numbers("ratio", ratios)
		e.Shares, err2 = numbers("share", shares)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		return e.Check()
	})
	if err != nil {
		return err
	}
	rows, err := e.Run(ctx)
	if err != nil {
		return err
	}
	return printRows(f, stdout, rows, "ratio share power failures over_wald se minutes over_oracle kayenta minutes naive minutes fixed failures kayenta_false low naive_false", func(r lab.PowerRow) string {
		return fmt.Sprintf("%g\t%g\t%.3f\t%.1f\t%.3f\t%.3f\t%.0f\t%.2f\t%.2f\t%.0f\t%.2f\t%.0f\t%.2f\t%.0f\t%.2f\t%.2f\t%.2f", r.Ratio, r.Share, r.Power, r.Failures, r.OverWald, r.Error, r.Minutes, r.OverOracle,
			r.KayentaPower, r.KayentaMinutes, r.NaivePower, r.NaiveMinutes, r.FixedPower, r.FixedFailures, r.KayentaFalse, r.KayentaLow, r.NaiveFalse)
	})
}

func labLate(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("late", 300, stderr)
	e := lab.Late{}
	var traffic string
	f.Float64Var(&e.Alpha, "alpha", 0.01, "`bound` of the probability of a false rollback")
	f.StringVar(&traffic, "traffic", "6,12", "failures that happen in six hours, in `multiples` of Wald's bound, parted by commas")
	err := f.start(args, stderr, func() (err error) {
		e.Options = f.options
		if e.Traffic, err = numbers("traffic", traffic); err != nil {
			return err
		}
		return e.Check()
	})
	if err != nil {
		return err
	}
	rows, err := e.Run(ctx)
	if err != nil {
		return err
	}
	return printRows(f, stdout, rows, "delay traffic rollouts told power 99%_from to no_delay over_no_delay 99%_from to oracle oracle_no_delay", func(r lab.LateRow) string {
		return fmt.Sprintf("%s\t%g\t%d\t%.2f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f", r.Delay, r.Traffic, r.Rollouts, r.Told, r.Power, r.Lower, r.Upper, r.NoDelay,
			r.Over, r.OverLower, r.OverUpper, r.Oracle, r.OracleAlone)
	})
}

func labCoverage(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("coverage", 10_000, stderr)
	e := lab.Coverage{}
	f.Float64Var(&e.Alpha, "alpha", 0.05, "`bound` of the probability that the truth is ever left out")
	if err := f.start(args, stderr, func() error { e.Options = f.options; return e.Check() }); err != nil {
		return err
	}
	rows, err := e.Run(ctx)
	if err != nil {
		return err
	}
	return printRows(f, stdout, rows, "sequence runs looks nominal covered 99%_from to", func(r lab.CoverageRow) string {
		return fmt.Sprintf("%s\t%d\t%d\t%g\t%.4f\t%.4f\t%.4f", r.Sequence, r.Runs, r.Looks, r.Nominal, r.Covered, r.Lower, r.Upper)
	})
}

// runPlain runs an experiment that has no flags but those of all, and prints its
// rows.
func runPlain[T any](f *labFlags, args []string, stdout, stderr io.Writer, run func() ([]T, error), header string, line func(r T) string) error {
	if err := f.start(args, stderr, func() error { return f.options.Check() }); err != nil {
		return err
	}
	rows, err := run()
	if err != nil {
		return err
	}
	return printRows(f, stdout, rows, header, line)
}

func labLadder(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("ladder", 100, stderr)
	e := lab.Ladder{}
	var ratios, sessions string
	f.Float64Var(&e.Alpha, "alpha", 0.01, "`bound` of the probability of a false rollback")
	f.StringVar(&ratios, "ratio", "1,1.5,2,3,5", "`ratios` of the canary's odds of errors, parted by commas; 1 is healthy")
	f.StringVar(&sessions, "sessions", "400,4000", "`sessions` a minute, parted by commas")
	f.IntVar(&e.Minutes, "minutes", 90, "`minutes` in which it is to be decided, the same for all ways, divisible by 3")
	err := f.start(args, stderr, func() error {
		var err, err2 error
		e.Options = f.options
		e.Ratios, err = numbers("ratio", ratios)
		e.Sessions, err2 = numbers("sessions", sessions)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		return e.Check()
	})
	if err != nil {
		return err
	}
	rows, err := e.Run(ctx)
	if err != nil {
		return err
	}
	return printRows(f, stdout, rows, "sessions ratio way rolled_back promoted minutes_to_rollback to_promote exposed harm over_fixed 95%_from to least", func(r lab.LadderRow) string {
		return fmt.Sprintf("%g\t%g\t%s\t%.3f\t%.3f\t%.1f\t%.1f\t%.0f\t%.1f\t%.2f\t%.2f\t%.2f\t%.1f", r.Sessions, r.Ratio, r.Way, r.RolledBack, r.Promoted, r.Rollback, r.Promote,
			r.Exposed, r.Harm, r.Over, r.OverLo, r.OverHi, r.Least)
	})
}

func labSilent(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("silent", 400, stderr)
	run := func() ([]lab.SilentRow, error) { e := lab.Silent{Options: f.options}; return e.Run(ctx) }
	return runPlain(f, args, stdout, stderr, run, "silence share counted rollouts found 99%_from to clients false_alarms 99%_from to", func(r lab.SilentRow) string {
		return fmt.Sprintf("%s\t%g\t%v\t%d\t%.4f\t%.4f\t%.4f\t%.0f\t%.4f\t%.4f\t%.4f", r.Silence, r.Share, r.Counted, r.Rollouts, r.Found, r.FoundLower, r.FoundUpper, r.FoundAt,
			r.FalseAlarms, r.FalseAlarmsMin, r.FalseAlarmsMax)
	})
}

func labForged(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("forged", 400, stderr)
	run := func() ([]lab.ForgedRow, error) { e := lab.Forged{Options: f.options}; return e.Run(ctx) }
	return runPlain(f, args, stdout, stderr, run, "attack ratio forged rollouts rolled_back promoted held honest_rolled_back promoted moved reasons", func(r lab.ForgedRow) string {
		return fmt.Sprintf("%s\t%g\t%g\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%v", r.Attack, r.Ratio, r.Forged, r.Rollouts, r.Rollback, r.Promotion, r.Hold,
			r.HonestRollback, r.HonestPromotion, r.Moved, r.Reasons)
	})
}

func labTenant(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("tenant", 100, stderr)
	run := func() ([]lab.TenantRow, error) { e := lab.Tenant{Options: f.options}; return e.Run(ctx) }
	return runPlain(f, args, stdout, stderr, run, "harm tenants share rollouts named false_discoveries after_failures most called after_failures most within_20", func(r lab.TenantRow) string {
		return fmt.Sprintf("%s\t%d\t%g\t%d\t%.3f\t%.4f\t%.1f\t%d\t%.3f\t%.1f\t%d\t%.3f", r.Harm, r.Customers, r.Share, r.Rollouts, r.Named, r.FDR, r.NamedAfter, r.NamedMost,
			r.Called, r.CalledAfter, r.CalledMost, r.CalledSoon)
	})
}

func labHeavy(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newLabFlags("heavy", 200, stderr)
	run := func() ([]lab.HeavyRow, error) { e := lab.Heavy{Options: f.options}; return e.Run(ctx) }
	return runPlain(f, args, stdout, stderr, run, "sender unit rollouts moved ln_e_moved_at_most", func(r lab.HeavyRow) string {
		return fmt.Sprintf("%s\t%s\t%d\t%.3f\t%.3g", r.Sender, r.Unit, r.Rollouts, r.Moved, r.LogEMost)
	})
}
