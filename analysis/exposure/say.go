package exposure

import (
	"fmt"
	"math"
	"time"
)

// proposal says what is proposed, and what it would cost.
func proposal(m *Meter, s *State) string {
	o, now := m.Proposed, s.Steps[0].Weight
	decides := fmt.Sprintf("in about %s of the %s given.%s", span(float64(o.Decides)), span(o.Hours), cost(o))
	switch {
	case o.Share == now:
		return fmt.Sprintf("%s, which is under way, is the smallest share that likely decides, %s", percent(o.Share), decides)
	case o.Share < now:
		return fmt.Sprintf("The %s under way are more than is needed: %s likely decides, %s", percent(now), percent(o.Share), decides)
	}
	stage := " No planned stage has as much."
	if m.Stage != nil {
		stage = fmt.Sprintf(" Stage %d, of %s, is the first planned one with as much.", *m.Stage, percent(s.Steps[*m.Stage-s.Stage].Weight))
	}
	return fmt.Sprintf("%s is the smallest share that likely decides, %s%s", percent(o.Share), decides, stage)
}

// cost says what a share costs at worst.
func cost(o *Outcome) string {
	if o.Guardrail == "" {
		return ""
	}
	return fmt.Sprintf(" If the canary is as bad in %s as it still may be, %.0f sessions more than the baseline's fail until that is found.", o.Guardrail, math.Ceil(float64(o.Found)))
}

// tooLate says that no share decides in time, and what half of the traffic, the
// most that can be compared, would take.
func tooLate(s State, o *Outcome) string {
	switch {
	case math.IsInf(float64(o.Decides), 1):
		return fmt.Sprintf("No share decides: the proof of %s cannot come at this rate of failures.", o.Needs)
	case o.Needs == "":
		return fmt.Sprintf("No share decides in the %s given: at half of the traffic it takes %s.", span(s.Given.Hours()), span(float64(o.Decides)))
	}
	return fmt.Sprintf("No share decides in the %s given: at half of the traffic %s takes %s.", span(s.Given.Hours()), o.Needs, span(float64(o.Decides)))
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// span spells hours as people read them.
func span(hours float64) string {
	if hours >= 48 {
		return fmt.Sprintf("%.3g days", hours/24)
	}
	d := time.Duration(hours * float64(time.Hour))
	switch {
	case d >= 10*time.Minute:
		d = d.Round(time.Minute)
		if h := d / time.Hour; h > 0 && d%time.Hour == 0 {
			return fmt.Sprintf("%d h", h)
		} else if h > 0 {
			return fmt.Sprintf("%d h %d min", h, d%time.Hour/time.Minute)
		}
		return fmt.Sprintf("%d min", d/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%.2g min", d.Minutes())
	}
	return fmt.Sprintf("%.0f s", math.Ceil(d.Seconds()))
}
