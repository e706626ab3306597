package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	meter "serin.dev/serin/analysis/exposure"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// Ladder is the experiment of what a harmful rollout costs until it is rolled back:
// up a fixed ladder, and with the shares that the exposure meter proposes. All
// ways have the same time, and the engine watches all of them.
type Ladder struct {
	Options
	Alpha    float64   // bound of false rollbacks, in (0,0.5]
	Ratios   []float64 // of the canary's odds of errors, 1 (healthy) to 20
	Sessions []float64 // a minute, of both arms, in [1,1e5]
	Minutes  int       // in which it is to be decided, 9 to 9,000, divisible by 3
}

// Ways are how a rollout goes up: rungs of a fixed time; the same, looked at only as
// each ends, as a tool that judges its steps does; rungs that wait for a promote
// each; shares that the meter proposes.
var Ways = []string{"fixed", "stepwise", "gated", "advised"}

// rungs are the fixed ladder's shares before the last, which is all.
var rungs = []float64{0.05, 0.25, 0.5}

// Check returns all faults together, naming each field, its value and what is
// allowed.
func (l *Ladder) Check() error {
	faults := []error{l.Options.Check(), checkLevel("alpha", l.Alpha)}
	for _, r := range l.Ratios {
		if !(r >= 1 && r <= 20) {
			faults = append(faults, fmt.Errorf("ratio: %v: want 1 to 20", r))
		}
	}
	for _, s := range l.Sessions {
		if !(s >= 1 && s <= 1e5) {
			faults = append(faults, fmt.Errorf("sessions: %v: want 1 to 100000", s))
		}
	}
	if len(l.Ratios) == 0 || len(l.Sessions) == 0 {
		faults = append(faults, errors.New("ratio, sessions: none: want at least one of each"))
	}
	if l.Minutes < 9 || l.Minutes > 9000 || l.Minutes%len(rungs) != 0 {
		faults = append(faults, fmt.Errorf("minutes: %d: want 9 to 9000, divisible by %d", l.Minutes, len(rungs)))
	}
	return errors.Join(faults...)
}

// LadderRow is what one way came to. Harm is counted until the rollback, or else to
// the end of the time given: what a rollout does that nobody found by then is not.
type LadderRow struct {
	Sessions float64 `json:"sessions_per_minute"`
	Ratio    float64 `json:"ratio"`
	Way      string  `json:"way"` // of Ways
	Rollouts int     `json:"rollouts"`
	Minutes  int     `json:"minutes_given"`

	RolledBack float64 `json:"rolled_back_rate"` // in the time given
	Promoted   float64 `json:"promoted_rate"`    // proven safe in it
	// Rollback and Promote are medians over all rollouts, null where half of them came
	// to none.
	Rollback verdict.Bound `json:"rollback_minutes_median"`
	Promote  verdict.Bound `json:"promote_minutes_median"`

	Exposed float64 `json:"exposed_sessions_mean"` // on the canary
	Harm    float64 `json:"excess_failed_mean"`    // expected failures more than without the change
	// Over compares with the fixed ladder's harm, with a normal interval at 95 %.
	Over   verdict.Bound `json:"harm_over_fixed"`
	OverLo verdict.Bound `json:"harm_over_fixed_lo"`
	OverHi verdict.Bound `json:"harm_over_fixed_hi"`
	// Least is what a test that knows the ratio needs on average at a vanishing
	// share: no schedule of shares costs less and finds it as surely.
	Least verdict.Bound `json:"excess_failed_least"`
}

// climb is what one rollout came to.
type climb struct {
	exposed            int64
	harm               float64
	rollback, promoted float64 // minutes; 0: not
}

// Run plays each ratio at each traffic in all ways.
func (l *Ladder) Run(ctx context.Context) (rows []LadderRow, err error) {
	for _, sessions := range l.Sessions {
		for _, ratio := range l.Ratios {
			var fixed []climb
			for _, way := range Ways {
				climbs, err := l.climbs(ctx, way, sessions, ratio)
				if err != nil {
					return nil, err
				}
				if way == "fixed" {
					fixed = climbs
				}
				rows = append(rows, l.row(way, sessions, ratio, climbs, fixed))
			}
		}
	}
	return rows, nil
}

func (l *Ladder) row(way string, sessions, ratio float64, climbs, fixed []climb) LadderRow {
	row := LadderRow{Sessions: sessions, Ratio: ratio, Way: way, Rollouts: len(climbs), Minutes: l.Minutes, Least: verdict.Unknown}
	n := float64(len(climbs))
	for _, c := range climbs {
		row.Exposed += float64(c.exposed) / n
		row.Harm += c.harm / n
		row.RolledBack += rate(c.rollback > 0)
		row.Promoted += rate(c.promoted > 0)
	}
	row.RolledBack /= n
	row.Promoted /= n
	row.Rollback = medianOf(climbs, func(c climb) float64 { return c.rollback })
	row.Promote = medianOf(climbs, func(c climb) float64 { return c.promoted })
	row.Over, row.OverLo, row.OverHi = over(climbs, fixed)
	if ratio > 1 {
		// Of a canary at a vanishing share each mark of its own is worth
		// r ln r - r + 1 over r, and 1 - 1/r of them is excess.
		needed := -math.Log(l.Alpha * l.rules("fixed", l.world(sessions)).Policy.Guardrails[session.Errors.String()].Weight)
		row.Least = verdict.Bound(needed * (ratio - 1) / (ratio*math.Log(ratio) - ratio + 1))
	}
	return row
}

// over returns the ratio of two means of harm and its interval, by the delta
// method; the two samples are independent.
func over(a, b []climb) (ratio, lo, hi verdict.Bound) {
	mean := func(cs []climb) (m, v float64) {
		n := float64(len(cs))
		for _, c := range cs {
			m += c.harm / n
		}
		for _, c := range cs {
			v += (c.harm - m) * (c.harm - m) / max(n-1, 1) / n
		}
		return m, v
	}
	ma, va := mean(a)
	mb, vb := mean(b)
	if !(ma > 0 && mb > 0) {
		return verdict.Unknown, verdict.Unknown, verdict.Unknown
	}
	half := 1.96 * math.Sqrt(va/(ma*ma)+vb/(mb*mb))
	return verdict.Bound(ma / mb), verdict.Bound(ma / mb * math.Exp(-half)), verdict.Bound(ma / mb * math.Exp(half))
}

// medianOf returns that of the minutes, over all rollouts; NaN where half of them
// have none.
func medianOf(climbs []climb, minutes func(c climb) float64) verdict.Bound {
	all := make([]float64, len(climbs))
	for i, c := range climbs {
		if all[i] = minutes(c); all[i] == 0 {
			all[i] = math.Inf(1)
		}
	}
	slices.Sort(all)
	if m := all[(len(all)-1)/2]; !math.IsInf(m, 1) {
		return verdict.Bound(m)
	}
	return verdict.Unknown
}

// ladderCell is the default epoch of policies: a rollout is looked at after each,
// so that no way has to wait for a look.
const ladderCell = 5 * second

// world returns that of the experiment: all guardrails fail now and then, in three
// strata.
func (l *Ladder) world(sessions float64) world {
	return world{name: "ladder", cells: l.Minutes * int(minute/ladderCell), cell: ladderCell, sessions: sessions * float64(ladderCell) / float64(minute), stages: rungs}
}

func (l *Ladder) rules(way string, w world) canary.Rollout {
	if way == "advised" {
		w.stages = meter.Shares
	}
	return w.rules(func(p *canary.Policy) { p.Alpha = l.Alpha })
}

func (l *Ladder) climbs(ctx context.Context, way string, sessions, ratio float64) ([]climb, error) {
	w := l.world(sessions)
	rules := l.rules(way, w)
	climbs := make([]climb, l.Rollouts)
	// What each failing session of the canary has beyond the baseline's risk.
	excess := make([]float64, len(strata))
	for s := range strata {
		o := baseRate[session.Errors] / (1 - baseRate[session.Errors]) * math.Exp(risk[s])
		excess[s] = o*ratio/(1+o*ratio) - o/(1+o)
	}
	err := each(ctx, l.Options, fmt.Sprintf("%s at ratio %g, %g sessions a minute", way, ratio, sessions), func(b *bench, i int) {
		c := &climbs[i]
		g := guide{way: way, given: int64(l.Minutes) * minute}
		p := play{world: w, rng: b.rng, harmed: session.Errors, ratio: ratio, steer: g.steer}
		p.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			took := float64(now-origin) / float64(minute)
			c.exposed, c.harm = t.Sessions[1], 0
			for k := range t.Strata {
				c.harm += float64(t.Strata[k].Sessions[1]) * excess[slices.Index(strata, t.Strata[k].Name)]
			}
			if way == "stepwise" && (now-origin)*int64(len(rungs))%g.given != 0 {
				return true
			}
			v := ask(t, now)
			g.last = v
			switch {
			case v.Decision == verdict.Rollback:
				c.rollback = took
				return false
			case v.Decision == verdict.Promote && c.promoted == 0 && (way != "gated" || t.Stage == len(rungs)-1):
				c.promoted = took
			}
			// A ladder of fixed times takes them; the others are done when it is proven.
			return way == "fixed" || way == "stepwise" || c.promoted == 0
		})
	})
	return climbs, err
}

// guide chooses the stage of a rollout.
type guide struct {
	way   string
	given int64 // ms, for all of it
	last  verdict.Verdict
	asked int64 // when the meter was read last
}

// askEvery is how often the meter is read, and firstAsk what it has seen by the
// first time, as a part of the time given; until then the least share is up.
const (
	askEvery = minute
	firstAsk = 1. / 20
)

// steer implements play.steer. The fixed ladder gives each rung an equal part of the
// time; the gated one goes up at each promote; the advised one goes up where the
// meter proposes more than there is.
func (g *guide) steer(t *canary.Test, now int64) int {
	took := now - origin
	switch g.way {
	case "fixed", "stepwise":
		return min(int(took*int64(len(rungs))/g.given), len(rungs)-1)
	case "gated":
		if g.last.Decision == verdict.Promote && g.last.Stage == t.Stage {
			return min(t.Stage+1, len(rungs)-1)
		}
		return t.Stage
	}
	if float64(took) < firstAsk*float64(g.given) || now < g.asked+askEvery {
		return t.Stage
	}
	g.asked = now
	s := t.Exposure(&g.last)
	s.Given = time.Duration(g.given-took) * time.Millisecond
	m := meter.Read(s)
	if m.Proposed == nil {
		return t.Stage
	}
	return max(t.Stage, slices.Index(meter.Shares, m.Proposed.Share))
}
