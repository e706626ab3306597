package lab

import (
	"context"
	"errors"
	"fmt"
	"math"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// Late is the experiment of failures that are reported late: what is found of a
// harm after two median delays of the world late, beside the same harm reported at
// once.
type Late struct {
	Options
	Alpha float64 // bound of false rollbacks, in (0,0.5]
	// Traffic is how many times the failures of Wald's bound happen in that time,
	// in [1,100]. Only a part of them is told by its end.
	Traffic []float64
}

// The harm that is looked for.
const (
	lateRatio    = 2
	lateShare    = 0.1
	lateRate     = 0.02 // the baseline's failure probability at most
	lateSessions = 200  // a minute at least
)

// delays are the worlds whose delays of reports are tried.
var delays = []string{"late", "next-morning"}

// Check returns all faults together, naming each field, its value and what is
// allowed.
func (l *Late) Check() error {
	faults := []error{l.Options.Check(), checkLevel("alpha", l.Alpha)}
	for _, x := range l.Traffic {
		if !(x >= 1 && x <= 100) {
			faults = append(faults, fmt.Errorf("traffic: %v: want 1 to 100", x))
		}
	}
	if len(l.Traffic) == 0 {
		faults = append(faults, errors.New("traffic: none: want at least one"))
	}
	return errors.Join(faults...)
}

// LateRow is what was found with one delay and traffic. The oracle is an SPRT that
// knows the ratio and sees the same reports.
type LateRow struct {
	Delay    string  `json:"delay"`
	Traffic  float64 `json:"traffic_over_wald"`
	Rollouts int     `json:"rollouts"`
	Hours    float64 `json:"hours"`
	Told     float64 `json:"told"` // part of the failures that is told by then, in the mean

	Power       float64 `json:"power"`
	Lower       float64 `json:"power_lower99"`
	Upper       float64 `json:"power_upper99"`
	NoDelay     float64 `json:"power_no_delay"`
	Over        float64 `json:"power_over_no_delay"`
	OverLower   float64 `json:"power_over_no_delay_lower99"`
	OverUpper   float64 `json:"power_over_no_delay_upper99"`
	Oracle      float64 `json:"oracle_power"`
	OracleAlone float64 `json:"oracle_power_no_delay"`
}

// Run simulates rollouts of one stage at a share of 10 %, whose canary fails twice
// as often.
func (l *Late) Run(ctx context.Context) (rows []LateRow, err error) {
	wald := evalue.MarksNeeded(lateShare, lateRatio, l.Alpha)
	for _, traffic := range l.Traffic {
		w := harmWorld(lateShare, lateRatio, traffic*wald/horizon, lateRate, lateSessions)
		name := fmt.Sprintf("traffic %g", traffic)
		alone, err := l.pursue(ctx, name+", no delay", w)
		if err != nil {
			return nil, err
		}
		for _, delay := range delays {
			late, err := findWorld(delay)
			if err != nil {
				return nil, err
			}
			w.delay = late.delay
			p, err := l.pursue(ctx, name+", "+delay, w)
			if err != nil {
				return nil, err
			}
			row := LateRow{Delay: delay, Traffic: traffic, Rollouts: l.Rollouts, Hours: horizon / 60, Told: p.failures / alone.failures,
				Power: p.power(), NoDelay: alone.power(), Oracle: p.oraclePower(), OracleAlone: alone.oraclePower()}
			row.Lower, row.Upper = exact(p.called, l.Rollouts, 0.99)
			row.Over, row.OverLower, row.OverUpper = quotient(p.called, alone.called, l.Rollouts)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// quotient returns that of two shares of n each and its 99 % interval, normal in
// the log (Katz et al., Biometrics 34, 1978).
func quotient(a, b, n int) (q, lo, hi float64) {
	x, y := float64(a)/float64(n), float64(b)/float64(n)
	q = x / y
	e := 2.5758 * math.Sqrt((1-x)/float64(a)+(1-y)/float64(b))
	return q, q * math.Exp(-e), q * math.Exp(e)
}

// pursuit is what became of the rollouts of one kind.
type pursuit struct {
	rollouts, called, oracle int
	failures                 float64 // told in all
}

func (p *pursuit) power() float64       { return float64(p.called) / float64(p.rollouts) }
func (p *pursuit) oraclePower() float64 { return float64(p.oracle) / float64(p.rollouts) }

// pursue plays rollouts to the horizon: sessions come on after a verdict, so that
// what is told by then is counted in all.
func (l *Late) pursue(ctx context.Context, name string, w world) (p pursuit, err error) {
	rules := oneGuardrail(w, l.Alpha)
	chases := make([]chase, l.Rollouts)
	err = each(ctx, l.Options, name, func(b *bench, i int) {
		c := &chases[i]
		play := play{world: w, rng: b.rng, harmed: session.Errors, ratio: oddsRatio(lateRatio, w.rate)}
		race := rivals{share: lateShare, ratio: lateRatio, alpha: l.Alpha}
		cell := 0
		play.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			cell++
			race.look(c, t, cell, false)
			if c.minutes == 0 && ask(t, now).Decision == verdict.Rollback {
				c.minutes = cell
			}
			c.failures = race.before[0][0] + race.before[0][1]
			return true
		})
	})
	p.rollouts = l.Rollouts
	for _, c := range chases {
		if c.minutes > 0 {
			p.called++
		}
		if c.oracle > 0 {
			p.oracle++
		}
		p.failures += float64(c.failures)
	}
	return p, err
}
