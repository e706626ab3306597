package canary

import (
	"fmt"
	"math"
	"strings"
	"time"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/verdict"
)

var failing = map[string]string{
	"error_free":  "sessions with an uncaught error",
	"lcp_good":    "sessions with a slow LCP",
	"inp_good":    "sessions with a slow INP",
	"cls_good":    "sessions with a poor CLS",
	"requests_ok": "sessions with a failed request",
	"telemetry":   "sessions that went silent after their exposure",
}

// losing says what sessions with a loss are.
var losing = map[string]string{
	"no_show":     "sessions that showed nothing",
	"no_lcp":      "sessions without an LCP",
	"no_inp":      "sessions without an interaction",
	"no_cls":      "sessions without a CLS",
	"seq_gap":     "sessions with a gap in their beacons",
	NotBooted:     "clients that sent nothing",
	"client_drop": "sessions whose client left something out",
	"no_init":     "sessions whose page came and whose SDK did not start",
}

// sentence says what a person can act on.
func sentence(v *verdict.Verdict) string {
	s := clause(v)
	if v.Outlook != nil {
		s += outlookSentence(v)
	}
	if len(v.Confounded) > 0 {
		s += " Confounded with " + strings.Join(v.Confounded, ", ") + ", under way on the same app."
	}
	if v.Observational != "" {
		s += " Observational: " + v.Observational + "."
	}
	return s
}

func clause(v *verdict.Verdict) string {
	switch {
	case v.Decision == verdict.Rollback && v.Reasons[0].Code == verdict.Harm:
		f := worst(v)
		where := "in all strata"
		switch {
		case f.Customer != "":
			where = "for " + f.Customer
		case f.Stratum != "":
			where = "on " + f.Stratum
		}
		return fmt.Sprintf("Roll back %s: %s %s, beside %s; %d canary sessions of about %d users were exposed.",
			v.Change, harmOn(f), where, v.Baseline, v.Radius.Sessions, v.Radius.Users)
	case v.Decision == verdict.Rollback:
		return fmt.Sprintf("Roll back %s: %s.", v.Change, v.Reasons[0].Text)
	case v.Decision == verdict.Promote:
		return fmt.Sprintf("Promote %s past %.3g %%: %s.", v.Change, 100*v.Weight, v.Reasons[0].Text)
	}
	return fmt.Sprintf("Hold %s at %.3g %%: %s.", v.Change, 100*v.Weight, v.Reasons[0].Text)
}

// harmOn says what was found on a guardrail.
func harmOn(f *verdict.Finding) string {
	n := f.Number
	switch {
	case n == nil:
		return fmt.Sprintf("%s are %s as common", failing[f.Guardrail], times(f.Effect, evalue.MinEstimate, evalue.MaxEstimate))
	case f.Kind == KindQuantile:
		return fmt.Sprintf("%s, a %s of %s, is %s as high (%.4g; baseline %.4g)", f.Guardrail, f.Kind, n.Metric, times(f.Effect, 0, math.Inf(1)), float64(n.Canary), float64(n.Baseline))
	}
	return fmt.Sprintf("%s, a %s of %s, is off by %.4g (%.4g to %.4g; baseline %.4g)", f.Guardrail, f.Kind, n.Metric,
		float64(n.Difference), float64(n.Lo), float64(n.Hi), float64(n.Baseline))
}

// times says how a ratio and its interval are. One at an end of what is estimated may
// lie beyond it.
func times(e verdict.Effect, lowest, highest float64) string {
	ratio, about, digits := float64(e.Ratio), "", 1
	const near = 1e-4 // how exact an estimate is
	switch {
	case ratio <= lowest*(1+near):
		about, digits = " or less", 2
	case ratio >= highest*(1-near):
		about = " or more"
	}
	if math.IsInf(float64(e.Hi), 1) || math.IsNaN(float64(e.Hi)) {
		return fmt.Sprintf("%.*f times%s (at least %.1f)", digits, ratio, about, float64(e.Lo))
	}
	return fmt.Sprintf("%.*f times%s (%.1f to %.1f)", digits, ratio, about, float64(e.Lo), float64(e.Hi))
}

// outlookSentence says what a stage that holds still needs, and what it can come
// to at best.
func outlookSentence(v *verdict.Verdict) (s string) {
	o := v.Outlook
	for _, f := range v.Findings {
		if f.Guardrail != o.Needs || f.More == nil {
			continue
		}
		switch more := f.More; {
		case math.IsNaN(float64(more.Sessions)):
			s += fmt.Sprintf(" The proof of %s cannot come at this rate.", o.Needs)
		case math.IsNaN(float64(more.Failures)):
			s += fmt.Sprintf(" The proof of %s needs about %.0f more canary sessions", o.Needs, float64(more.Sessions))
		default:
			s += fmt.Sprintf(" The proof of %s needs about %.0f more that fail, or %.0f more canary sessions", o.Needs, float64(more.Failures), float64(more.Sessions))
		}
		if o.Promote != nil {
			s += ", likely by " + clock(*o.Promote, v.IssuedAt)
			if o.Promote.After(o.Deadline) {
				s += ", which is past the deadline"
			}
			s += "."
		} else if !math.IsNaN(float64(f.More.Sessions)) {
			s += "."
		}
	}
	if o.Detects == "" {
		return s
	}
	if math.IsInf(float64(o.Detectable), 1) || math.IsNaN(float64(o.Detectable)) {
		return s + fmt.Sprintf(" This stage can show no harm by %s.", clock(o.Deadline, v.IssuedAt))
	}
	return s + fmt.Sprintf(" This stage can at best show %s that are %.3g times as common by %s.", failing[o.Detects], float64(o.Detectable), clock(o.Deadline, v.IssuedAt))
}

// clock spells a time for a person, with its date if that is another than now's.
func clock(at, now time.Time) string {
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format("15:04 MST")
	}
	return at.Format("2006-01-02 15:04 MST")
}
