package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"serin.dev/serin/analysis/slo"
)

// printReaches prints from which rate of failures on each alert of objectives burns,
// and how long that takes.
func printReaches(w io.Writer, objectives []slo.Objective) {
	for i := range objectives {
		o := &objectives[i]
		fmt.Fprintf(w, "%s: %.4g %% of %ss good over %s; its budget burns at most %.4g times as fast as planned\n", o.Name, 100*o.Target, o.Unit, o.Window, slo.MaxBurn(o.Target))
		reaches := o.Reaches()
		if len(reaches) == 0 {
			fmt.Fprintln(w, "  no alerts")
			continue
		}
		t := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  ALERT\tSEVERITY\tBURNS FROM\tBAD\tALL BAD\tTWICE THE RATE\tEVIDENCE")
		for _, r := range reaches {
			a := r.Alert
			from, bad, all, twice := fmt.Sprintf("%.4g in %s and %s", a.Threshold, short(a.Long), short(a.Short)), fmt.Sprintf("%.4g %%", 100*r.Bad), "after "+short(r.AllBad), "-"
			switch {
			case a.Form == slo.FormTrickle:
				from, bad, all = "a sequential test", fmt.Sprintf("over %.4g %%", 100*r.Bad), "-"
			case a.Form == slo.FormExcess:
				from, bad = from+" above the usual", bad+" more"
			}
			if r.Twice > 0 {
				twice = "after " + short(r.Twice)
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%d bad %ss\n", a.Name, a.Severity, from, bad, all, twice, r.Units, o.Unit)
		}
		_ = t.Flush() // a writer that is gone is no fault of ours
	}
}

// short spells a duration without zeros at its end.
func short(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if n := len(s) - len(zero); n > 0 && s[n:] == zero {
			s = s[:n+1]
		}
	}
	return s
}
