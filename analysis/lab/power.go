package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/judge"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// Power is the experiment of rollouts whose canary fails more often.
type Power struct {
	Options
	Alpha  float64   // bound of false rollbacks, in (0,0.5]
	Ratios []float64 // of failure probabilities, canary to baseline, above 1, at most 10
	Shares []float64 // of the canary, in %, in (0,100)
	Rate   float64   // the baseline's failure probability at most, in (0,0.1]; times each ratio at most a half
	// Sessions is how many come in a minute at least, in [1,1e5]. Where they would
	// fail too seldom for Wald's bound to take an hour more come; where too often,
	// they fail less. With few the canary of a small share has no session in many
	// cells, and what fails in these says nothing.
	Sessions float64
	// Epoch is the length of the groups in which sessions are compared, of which a
	// minute is a multiple; all look every minute.
	Epoch time.Duration
	// Rivals says whether the classical ways are run, too. Without them a rollout
	// ends when the engine and the oracle have an answer.
	Rivals bool
}

// waldMinutes is how long Wald's bound takes: failure probability and traffic are
// chosen by it, so that a minute is short beside every delay.
const waldMinutes = 60

// horizon is how many minutes a rollout is simulated at most: 6 times Wald's
// bound, and two median delays of the world late.
const horizon = 6 * waldMinutes

// classicalHorizon is how many minutes the classical judge and naive peeking have.
const classicalHorizon = 2 * waldMinutes

// Check returns all faults together, naming each field, its value and what is
// allowed.
func (p *Power) Check() error {
	faults := []error{p.Options.Check(), checkLevel("alpha", p.Alpha)}
	if !(p.Rate > 0 && p.Rate <= 0.1) {
		faults = append(faults, fmt.Errorf("failure-rate: %v: want above 0, at most 0.1", p.Rate))
	}
	if !(p.Sessions >= 1 && p.Sessions <= 1e5) {
		faults = append(faults, fmt.Errorf("sessions: %v: want 1 to 100000", p.Sessions))
	}
	if p.Epoch < time.Second || p.Epoch > time.Minute || time.Minute%p.Epoch != 0 {
		faults = append(faults, fmt.Errorf("epoch: %v: want 1s to 1m, of which 1m is a multiple", p.Epoch))
	}
	for _, r := range p.Ratios {
		if !(r > 1 && r <= 10 && r*p.Rate <= 0.5) {
			faults = append(faults, fmt.Errorf("ratio: %v: want above 1, at most 10, and times the failure rate of %v at most 0.5", r, p.Rate))
		}
	}
	for _, s := range p.Shares {
		if !(s > 0 && s < 100) {
			faults = append(faults, fmt.Errorf("share: %v: want a percentage above 0 and below 100", s))
		}
	}
	if len(p.Ratios) == 0 || len(p.Shares) == 0 {
		faults = append(faults, errors.New("ratio, share: none: want at least one of each"))
	}
	return errors.Join(faults...)
}

// PowerRow is what was found at one ratio and share. Failures are those of both
// arms together; minutes count from the start, over the rollouts that were
// found. A number is null where it does not exist.
type PowerRow struct {
	Ratio    float64 `json:"ratio"`
	Share    float64 `json:"share"` // %
	Rollouts int     `json:"rollouts"`
	Alpha    float64 `json:"alpha"`
	Rate     float64 `json:"failure_rate"`
	Sessions float64 `json:"sessions_per_minute"`
	Epoch    float64 `json:"epoch_seconds"`

	Power    float64       `json:"power"`         // share rolled back for harm within 6 times Wald's bound, which are 6 hours
	Failures verdict.Bound `json:"failures_mean"` // until the verdict
	Wald     float64       `json:"wald_failures"`
	OverWald verdict.Bound `json:"failures_over_wald"`
	Error    verdict.Bound `json:"failures_over_wald_se"` // its standard error
	Minutes  verdict.Bound `json:"minutes_median"`

	OraclePower   float64       `json:"oracle_power"`
	OracleMinutes verdict.Bound `json:"oracle_minutes_median"` // of an SPRT that knows the ratio
	OverOracle    verdict.Bound `json:"delay_over_oracle"`

	KayentaPower   float64       `json:"kayenta_power"` // called High at a look every ten minutes, within twice Wald's bound
	KayentaMinutes verdict.Bound `json:"kayenta_minutes_median"`
	NaivePower     float64       `json:"naive_power"` // by a z test every minute, within twice Wald's bound
	NaiveMinutes   verdict.Bound `json:"naive_minutes_median"`
	FixedPower     float64       `json:"fixed_power"` // by one z test at the number of failures planned for a power of 0.9
	FixedFailures  float64       `json:"fixed_failures"`

	// What the classical ways say of rollouts with the same traffic and no harm.
	KayentaFalse float64 `json:"kayenta_false_rate"`
	KayentaLow   float64 `json:"kayenta_low_rate"` // called Low: better, though alike
	NaiveFalse   float64 `json:"naive_false_rate"`
}

// Run simulates rollouts of one stage in which one guardrail, which has the whole
// alpha, fails in one stratum; the sessions of all rivals are the same.
func (p *Power) Run(ctx context.Context) (rows []PowerRow, err error) {
	for _, ratio := range p.Ratios {
		for _, share := range p.Shares {
			row, err := p.row(ctx, ratio, share)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// chase is one rollout and when each rival found the harm; 0: not.
type chase struct {
	minutes, oracle, kayenta, naive int
	failures                        int64
	fixed                           bool
	low                             bool // Kayenta's judge called it Low
}

func (p *Power) row(ctx context.Context, ratio, percent float64) (PowerRow, error) {
	share := percent / 100
	r := rivals{share: share, ratio: ratio, alpha: p.Alpha}
	r.plan()
	wald := evalue.MarksNeeded(share, ratio, p.Alpha)
	w := harmWorld(share, ratio, wald/waldMinutes, p.Rate, p.Sessions)
	row := PowerRow{Ratio: ratio, Share: percent, Rollouts: p.Rollouts, Alpha: p.Alpha, Rate: w.rate, Sessions: w.sessions, Epoch: p.Epoch.Seconds(),
		Wald: wald, FixedFailures: r.fixedAt}
	name := fmt.Sprintf("ratio %g at %g %%", ratio, percent)
	w.cell = p.Epoch.Milliseconds()
	epochs := int(minute / w.cell) // of a minute
	w.cells, w.sessions = w.cells*epochs, w.sessions/float64(epochs)
	chases, err := p.chases(ctx, name, w, r, true)
	if err != nil {
		return row, err
	}
	n := float64(len(chases))
	failures, squares := 0.0, 0.0
	for _, c := range chases {
		if c.minutes > 0 {
			x := float64(c.failures)
			failures, squares = failures+x, squares+x*x
		}
		row.FixedPower += rate(c.fixed) / n
	}
	row.Power = found(chases, func(c chase) int { return c.minutes })
	row.Minutes = median(chases, func(c chase) int { return c.minutes })
	row.Failures = verdict.Bound(failures / (row.Power * n))
	row.OverWald = row.Failures / verdict.Bound(wald)
	called, mean := row.Power*n, float64(row.Failures)
	row.Error = verdict.Bound(math.Sqrt(max(squares/called-mean*mean, 0)/called) / wald)
	row.OraclePower = found(chases, func(c chase) int { return c.oracle })
	row.OracleMinutes = median(chases, func(c chase) int { return c.oracle })
	row.OverOracle = row.Minutes / row.OracleMinutes
	row.KayentaPower = found(chases, func(c chase) int { return c.kayenta })
	row.KayentaMinutes = median(chases, func(c chase) int { return c.kayenta })
	row.NaivePower = found(chases, func(c chase) int { return c.naive })
	row.NaiveMinutes = median(chases, func(c chase) int { return c.naive })
	if !p.Rivals {
		return row, nil
	}
	alike := r
	alike.ratio = 1
	chases, err = p.chases(ctx, name+", no harm", w, alike, false)
	if err != nil {
		return row, err
	}
	row.KayentaFalse = found(chases, func(c chase) int { return c.kayenta })
	row.NaiveFalse = found(chases, func(c chase) int { return c.naive })
	for _, c := range chases {
		row.KayentaLow += rate(c.low) / float64(len(chases))
	}
	return row, nil
}

// harmWorld is a world of one stage and one stratum, in which some failures of
// both arms together come in a minute in the mean. The baseline fails at most at a
// rate, and less where there would be fewer than some sessions a minute.
func harmWorld(share, ratio, failures, rate, sessions float64) world {
	w := world{name: "power", cells: horizon, cell: minute, stages: []float64{share}}
	perMinute := failures / (1 - share + share*ratio) // if all sessions were of the baseline
	w.rate = min(rate, perMinute/sessions)
	w.sessions = perMinute / w.rate
	return w
}

// oddsRatio is that of a ratio of failure probabilities, where the baseline fails at
// a rate.
func oddsRatio(ratio, rate float64) float64 { return ratio * (1 - rate) / (1 - ratio*rate) }

// chases simulates the rollouts of a row. With toVerdict they go on until the
// engine and the oracle have an answer; a quarter as many without harm end where
// the classical ways do.
func (p *Power) chases(ctx context.Context, name string, w world, r rivals, toVerdict bool) ([]chase, error) {
	o := p.Options
	if !toVerdict {
		o.Rollouts = max(1, o.Rollouts/4)
	}
	rules := oneGuardrail(w, p.Alpha)
	chases := make([]chase, o.Rollouts)
	err := each(ctx, o, name, func(b *bench, i int) {
		c := &chases[i]
		play := play{world: w, rng: b.rng, harmed: session.Errors, ratio: oddsRatio(r.ratio, w.rate)}
		race := rivals{share: r.share, ratio: r.ratio, alpha: r.alpha, fixedAt: r.fixedAt, z: r.z}
		passed := 0 // minutes
		play.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			if (now-origin)%minute != 0 {
				return true
			}
			passed++
			race.look(c, t, passed, p.Rivals)
			if !toVerdict {
				return passed < classicalHorizon
			}
			if c.minutes == 0 {
				v := ask(t, now)
				if v.Decision == verdict.Rollback {
					c.minutes = passed
					f := v.Findings[session.Errors].Failures
					c.failures = f.Canary + f.Baseline
				}
			}
			return c.minutes == 0 || c.oracle == 0 || p.Rivals && (!race.fixedDone || passed < classicalHorizon)
		})
	})
	return chases, err
}

// oneGuardrail returns rules in which errors have the whole alpha, uncut.
func oneGuardrail(w world, alpha float64) canary.Rollout {
	return w.rules(func(p *canary.Policy) {
		p.Alpha, p.Strata = alpha, []string{}
		p.Guardrails = map[string]canary.Guardrail{}
		for m := range session.Metrics {
			p.Guardrails[m.String()] = canary.Guardrail{Weight: 1e-9, Optional: true}
		}
		p.Guardrails[session.Errors.String()] = canary.Guardrail{Weight: 1}
	})
}

// rivals are the other ways to find harm, given the counts that the engine has
// at each look.
type rivals struct {
	share, ratio, alpha float64
	z                   float64 // critical value of a one-sided test at alpha
	fixedAt             float64 // failures at which the fixed test looks

	before    [2][2]int64 // failures and sessions by arm, at the look before
	llr       float64     // of the oracle
	fixedDone bool
	rates     [2][]float64 // failures per session of each minute, by arm
}

// plan computes what the tests need to know beforehand. The number of failures
// at which a fixed test has a power of 0.9 is (z_alpha + z_0.1)^2 / (s (1-s)
// ln^2 ratio) (Schoenfeld, Biometrika 68, 1981).
func (r *rivals) plan() {
	quantile := func(tail float64) float64 { return math.Sqrt2 * math.Erfinv(1-2*tail) }
	r.z = quantile(r.alpha)
	effect := math.Log(r.ratio)
	r.fixedAt = math.Ceil(math.Pow(r.z+quantile(0.1), 2) / (r.share * (1 - r.share) * effect * effect))
}

// look lets each rival look at the end of a minute: the oracle, and the classical
// ways where they are wanted.
func (r *rivals) look(c *chase, t *canary.Test, minute int, classical bool) {
	var failed [2]int64
	for k := range t.Strata {
		for arm, n := range t.Strata[k].Failures[session.Errors] {
			failed[arm] += n
		}
	}
	fresh := [2]int64{failed[0] - r.before[0][0], failed[1] - r.before[0][1]}
	for arm := range 2 {
		r.rates[arm] = append(r.rates[arm], float64(fresh[arm])/float64(t.Sessions[arm]-r.before[1][arm])) // NaN where nobody came
	}
	r.before = [2][2]int64{failed, t.Sessions}
	if r.ratio > 1 {
		r.llr += float64(fresh[1])*math.Log(r.ratio) - float64(fresh[0]+fresh[1])*math.Log(1+r.share*(r.ratio-1))
		if c.oracle == 0 && r.llr >= -math.Log(r.alpha) {
			c.oracle = minute
		}
	}
	if !classical {
		return
	}
	z := zScore(failed, t.Sessions)
	if c.naive == 0 && minute <= classicalHorizon && failed[1] >= 5 && z > r.z {
		c.naive = minute
	}
	if !r.fixedDone && float64(failed[0]+failed[1]) >= r.fixedAt {
		r.fixedDone, c.fixed = true, z > r.z
	}
	if minute%10 == 0 && minute <= classicalHorizon && (c.kayenta == 0 || !c.low) {
		for arm := range r.rates { // the judge takes no infinite values, of minutes whose only beacons are late
			for i, v := range r.rates[arm] {
				if math.IsInf(v, 0) {
					r.rates[arm][i] = math.NaN()
				}
			}
		}
		res, err := judge.Judge(r.rates[1], r.rates[0], judge.Defaults(judge.MeanRatio))
		if err != nil {
			panic("BUG: the rates of a minute: " + err.Error())
		}
		switch res.Classification {
		case judge.High:
			if c.kayenta == 0 {
				c.kayenta = minute
			}
		case judge.Low:
			c.low = true
		}
	}
}

// zScore is that of the pooled test of two proportions.
func zScore(failed, sessions [2]int64) float64 {
	n0, n1 := float64(sessions[0]), float64(sessions[1])
	p := float64(failed[0]+failed[1]) / (n0 + n1)
	se := math.Sqrt(p * (1 - p) * (1/n0 + 1/n1))
	if !(se > 0) {
		return 0
	}
	return (float64(failed[1])/n1 - float64(failed[0])/n0) / se
}

// found returns the share of rollouts in which a rival found the harm.
func found(chases []chase, minutes func(c chase) int) float64 {
	n := 0
	for _, c := range chases {
		if minutes(c) > 0 {
			n++
		}
	}
	return float64(n) / float64(len(chases))
}

// median returns that of the minutes to a finding, over all rollouts; NaN where
// half of them found nothing.
func median(chases []chase, minutes func(c chase) int) verdict.Bound {
	all := make([]float64, len(chases))
	for i, c := range chases {
		all[i] = math.Inf(1)
		if m := minutes(c); m > 0 {
			all[i] = float64(m)
		}
	}
	slices.Sort(all)
	if m := all[(len(all)-1)/2]; !math.IsInf(m, 1) {
		return verdict.Bound(m)
	}
	return verdict.Bound(math.NaN())
}
