package lab

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// Silent is the experiment of canary clients that never boot.
type Silent struct{ Options }

// SilentRow is what was found of one way to be silent.
type SilentRow struct {
	Silence  string  `json:"silence"` // no beacon at all, or nothing after the exposure
	Share    float64 `json:"share"`   // of the canary, %
	Counted  bool    `json:"counted"` // who assigns tells how many clients each arm has, every minute
	Rollouts int     `json:"rollouts"`
	Clients  int     `json:"clients"` // assigned, at most
	Lost     float64 `json:"lost"`    // part of the canary's clients that do not boot

	Found          float64       `json:"found_rate"` // held for the data or rolled back for silence, within these clients
	FoundLower     float64       `json:"found_lower99"`
	FoundUpper     float64       `json:"found_upper99"`
	FoundAt        verdict.Bound `json:"clients_median"` // assigned until then
	FalseAlarms    float64       `json:"false_alarm_rate"`
	FalseAlarmsMin float64       `json:"false_alarm_lower99"`
	FalseAlarmsMax float64       `json:"false_alarm_upper99"`
}

const noBeacon = "no beacon"

// gone is the part of the clients that leave before they send anything.
const gone = 0.05

// assigned is how many clients a rollout has.
const assigned = 50_000

// Run loses 5 % of the canary's clients, before their first beacon or after it,
// at shares of 50 and 10 %; 1 % of all clients fall silent anyway, and where
// clients are counted 5 % of both arms send nothing in any case, as those do who
// leave at once.
func (s *Silent) Run(ctx context.Context) (rows []SilentRow, err error) {
	const lost = 0.05
	for _, share := range []float64{0.5, 0.1} {
		for _, way := range []struct {
			silence string
			counted bool
		}{{noBeacon, false}, {noBeacon, true}, {"after the exposure", false}} {
			row := SilentRow{Silence: way.silence, Share: 100 * share, Counted: way.counted, Rollouts: s.Rollouts, Clients: assigned, Lost: lost}
			name := fmt.Sprintf("silent, %s, at %g %%", way.silence, row.Share)
			if way.counted {
				name += ", counted"
			}
			found, at, err := s.count(ctx, name, share, row, lost)
			if err != nil {
				return nil, err
			}
			row.Found = float64(found) / float64(s.Rollouts)
			row.FoundLower, row.FoundUpper = exact(found, s.Rollouts, 0.99)
			slices.Sort(at)
			row.FoundAt = verdict.Bound(at[(len(at)-1)/2])
			alarms, _, err := s.count(ctx, name+", none lost", share, row, 0)
			if err != nil {
				return nil, err
			}
			row.FalseAlarms = float64(alarms) / float64(s.Rollouts)
			row.FalseAlarmsMin, row.FalseAlarmsMax = exact(alarms, s.Rollouts, 0.99)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (s *Silent) count(ctx context.Context, name string, share float64, row SilentRow, lost float64) (found int, at []float64, err error) {
	w := world{name: "silent", cells: 100, cell: minute, sessions: assigned / 100, stages: []float64{share}}
	rules := w.rules(nil)
	at = make([]float64, s.Rollouts)
	err = each(ctx, s.Options, name, func(b *bench, i int) {
		at[i] = math.Inf(1)
		clients, arms := 0, [2]int64{}
		p := play{world: w, rng: b.rng, ratio: 1, alter: func(v *visit, rng *rand.Rand) {
			clients++
			arm := 0
			if v.canary {
				arm = 1
			}
			arms[arm]++
			v.failed = 0
			if row.Counted && rng.Float64() < gone {
				v.lost = true
				return
			}
			if rng.Float64() < 0.01 {
				v.failed = 1 << session.Telemetry
			}
			if v.canary && rng.Float64() < lost {
				v.failed = 1 << session.Telemetry
				v.lost = row.Silence == noBeacon
			}
		}}
		p.run(b.engine, rules, func(t *canary.Test, now int64) bool {
			if row.Counted {
				t.Assign(arms[1], arms[0])
			}
			v := ask(t, now)
			switch v.Reasons[0].Code {
			case verdict.Harm, verdict.SampleRatio, verdict.Missing, verdict.UnequalLoss:
				at[i] = float64(clients)
			}
			return math.IsInf(at[i], 1) && clients < assigned
		})
	})
	for _, c := range at {
		if !math.IsInf(c, 1) {
			found++
		}
	}
	return found, at, err
}
