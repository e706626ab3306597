package slo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// The oracle knows windows, slices and counts by other means than the code: civil
// days are numbers, local times are searched among instants, and counts are lists.

// civil returns the number of days from 1970-01-01 to a date of the Gregorian
// calendar.
func civil(y, m, d int) int {
	days := 0
	leap := func(y int) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }
	for k := 1970; k < y; k++ {
		days += 365
		if leap(k) {
			days++
		}
	}
	return days + monthDays(y, m, true) + d - 1
}

// monthDays returns the days of a month, or of all of the year before it.
func monthDays(y, m int, before bool) int {
	lengths := [12]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
		lengths[1] = 29
	}
	if !before {
		return lengths[m-1]
	}
	n := 0
	for k := range m - 1 {
		n += lengths[k]
	}
	return n
}

// instant returns the instant at which a zone's clock shows a day and a minute of
// it; the tests begin at minutes that each day of the zone has once.
func instant(t *testing.T, zone *time.Location, day, minute int) int64 {
	local := int64(day)*1440 + int64(minute)
	for offset := int64(-15 * 60); offset <= 15*60; offset += 15 {
		at := local - offset
		_, seconds := time.Unix(at*60, 0).In(zone).Zone()
		if int64(seconds) == offset*60 {
			return at
		}
	}
	t.Fatalf("no instant of day %d, minute %d in %s", day, minute, zone)
	return 0
}

// starts returns the start of the k-th period of a calendar window from its anchor.
func starts(t *testing.T, w Window, zone *time.Location, y, m, d, minute, k int) int64 {
	switch w.Unit {
	case "h":
		return instant(t, zone, civil(y, m, d), minute) + int64(k*w.Count*60)
	case "d":
		return instant(t, zone, civil(y, m, d)+k*w.Count, minute)
	case "w":
		return instant(t, zone, civil(y, m, d)+7*k*w.Count, minute)
	}
	months := 12*y + m - 1 + k*w.Count*map[string]int{"M": 1, "Q": 3, "Y": 12}[w.Unit]
	y, m = months/12, months%12+1
	return instant(t, zone, civil(y, m, min(d, monthDays(y, m, false))), minute)
}

// seen is one unit as the oracle has it.
type seen struct {
	at  int64 // minute that it counts in
	bad bool
}

// TestOracle compares budgets, burn rates and restatements over random histories,
// of rolling and calendar windows in zones with and without changes of the clock,
// around leap days, with late data, by events and by sessions.
func TestOracle(t *testing.T) {
	histories := 10_000
	if testing.Short() {
		histories = 500
	}
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"}
	late, crossed := 0, 0
	for h := range histories {
		r := rand.New(rand.NewPCG(uint64(h), 9))
		o := testObjective(0.9)
		o.Alerts = o.Alerts[:4]
		o.Unit = []string{UnitEvent, UnitSession}[r.IntN(2)]
		o.Method = []string{Occurrences, Timeslices, RatioTimeslices}[r.IntN(3)]
		o.Slice, o.SliceTarget = time.Duration([]int{1, 5, 15, 60}[r.IntN(4)])*time.Minute, 0.8
		o.Window = Window{Count: 1 + r.IntN(3), Unit: []string{"h", "d", "w", "M", "Q", "Y"}[r.IntN(6)], Rolling: r.IntN(2) == 0}
		if o.Method != Occurrences {
			o.Window.Unit, o.Window.Count = []string{"h", "d"}[r.IntN(2)], 1+r.IntN(3)
		}
		zone, err := time.LoadLocation(zones[r.IntN(len(zones))])
		if err != nil {
			t.Fatal(err)
		}
		y, m, d, minute := 2023+r.IntN(3), 1+r.IntN(12), 1+r.IntN(28), 60*(4+r.IntN(20))
		if o.Window.Unit == "M" || o.Window.Unit == "Q" || o.Window.Unit == "Y" {
			d = 1 + r.IntN(monthDays(y, m, false))
		}
		if !o.Window.Rolling {
			o.Window.Start, o.Window.Zone = fmt.Sprintf("%04d-%02d-%02d %02d:00:00", y, m, d, minute/60), zone.String()
		}
		// Around a change of the clock, a leap day or anything else.
		heart := []int64{1711846800, 1730595600, 1709164800, 1_764_000_000, 1712415600}[r.IntN(5)] / 60
		now := heart - int64(r.IntN(3*1440))
		b := NewBook(o, 0)
		b.Cohorts = append(b.Cohorts, &Cohort{})
		list := []seen{}
		sessions := map[uint64]int{}
		var restated verdict.Restated
		isLate := func(at int64) bool { return (now-at)*60+30 > int64(o.Lateness/time.Second)+60 }
		note := func(at int64, bad bool) {
			if isLate(at) {
				late++
				restated.Total++
				if bad {
					restated.Bad++
				}
			}
		}
		for range 20 + r.IntN(60) {
			now += int64(r.ExpFloat64() * float64(o.Window.Period()/time.Minute) / 15)
			at, bad, id := now, r.IntN(3) == 0, uint64(r.IntN(6))+uint64(now/30)<<8
			if r.IntN(4) == 0 {
				at -= int64(r.ExpFloat64() * 200)
			}
			received := now*60_000 + 30_000
			b.Advance(received)
			if o.Unit == UnitEvent {
				b.event(id, 0, -1, int32(at), received, bad)
				list = append(list, seen{at, bad})
				note(at, bad)
				continue
			}
			b.unit(id, 0, -1, int32(at), received, "", bad)
			if i, ok := sessions[id]; !ok {
				sessions[id] = len(list)
				list = append(list, seen{at, bad})
				note(at, bad)
			} else if bad && !list[i].bad {
				if isLate(at) && isLate(list[i].at) {
					restated.Total-- // history had the session already: late is that it failed
				}
				list[i] = seen{at, true}
				note(at, true)
			}
		}
		to := now + 15 - now%15 // what begins long ago is kept by quarters
		from, until := to-int64(o.Window.Period()/time.Minute), to
		if !o.Window.Rolling {
			k := -2000
			if o.Window.Unit == "h" {
				k = int((to-starts(t, o.Window, zone, y, m, d, minute, 0))/int64(60*o.Window.Count)) - 2
			} else {
				k = int((to-starts(t, o.Window, zone, y, m, d, minute, 0))/int64(o.Window.Period()/time.Minute)) - 3
			}
			for starts(t, o.Window, zone, y, m, d, minute, k+1) <= to {
				k++
			}
			from, until = starts(t, o.Window, zone, y, m, d, minute, k), starts(t, o.Window, zone, y, m, d, minute, k+1)
			if (until-from)%1440 != 0 && o.Window.Unit != "h" {
				crossed++
			}
		}
		count := func(from, to int64) (total, bad int64) {
			for _, s := range list {
				if s.at >= from && s.at < to {
					total++
					if s.bad {
						bad++
					}
				}
			}
			return total, bad
		}
		want := verdict.Budget{From: time.Unix(from*60, 0).UTC(), To: time.Unix(until*60, 0).UTC(), Restated: restated}
		want.Total, want.Bad = count(from, to)
		missing, whole := float64(want.Bad), want.Total
		if o.Method != Occurrences {
			want.Total, want.Bad, missing, whole = 0, 0, 0, 0
			step := int64(o.Slice / time.Minute)
			first := from
			for o.Window.Rolling && first%step != 0 {
				first++
			}
			for at := first; at+step <= to; at += step {
				total, bad := count(at, at+step)
				if o.Method == RatioTimeslices && total == 0 {
					continue
				}
				want.Total++
				if total > 0 {
					share := float64(bad) / float64(total)
					if o.Method == RatioTimeslices {
						missing += share
					} else if 1-share < o.SliceTarget {
						want.Bad++
						missing++
					}
				}
			}
			if whole = want.Total; o.Method == Timeslices && !o.Window.Rolling {
				whole = (until - from) / step
			}
		}
		want.Allowed = (1 - o.Target) * float64(whole)
		left := math.NaN()
		if want.Allowed > 0 {
			left = 1 - missing/want.Allowed
		}
		err = b.Evaluate("t", Question{At: to * 60_000}, func(s *verdict.SLOState) {
			got := s.Budget
			if near(float64(got.Remaining), left) && near(got.Allowed, want.Allowed) {
				got.Remaining, got.Allowed = 0, want.Allowed
			}
			if got != want {
				t.Fatalf("history %d: %v %s %s of %v: budget %+v, want %+v with %v left", h, o.Window, o.Method, o.Unit, o.Slice, s.Budget, want, left)
			}
			for i, a := range o.Alerts {
				total, bad := count(to-int64(a.Long/time.Minute), to)
				if g := &s.Alerts[i]; g.Total != total || g.Bad != bad || o.Method == Occurrences && a.Form == FormBurn && !near(float64(g.LongRate), float64(bad)/float64(total)/(1-o.Target)) {
					t.Fatalf("history %d: %s: %d of %d, rate %v; want %d of %d", h, a.Name, g.Bad, g.Total, g.LongRate, bad, total)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d histories, %d late units, %d windows with a change of the clock", histories, late, crossed)
	if late < histories || crossed < histories/200 {
		t.Errorf("too little that is late (%d) or crosses a change of the clock (%d) to show anything", late, crossed)
	}
}

// near compares two figures that were computed in other orders.
func near(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-9*math.Max(1, math.Abs(b))
}

// TestLateSession has a session come late whose failure is not its first event:
// history is corrected by one session, on the day that it fails.
func TestLateSession(t *testing.T) {
	o := testObjective(0.9)
	o.Unit = UnitSession
	b := NewBook(o, 0)
	b.Cohorts = append(b.Cohorts, &Cohort{})
	const at = 30_000_000
	received := int64(at+600) * 60_000
	b.Advance(received)
	for i, bad := range []bool{false, false, true, true} {
		b.unit(7, 0, -1, at+int32(i), received, "", bad)
	}
	if want := (verdict.Restated{Total: 1, Bad: 1}); b.Restated != want || len(b.Late) != 1 || b.Late[0].Total != 1 || b.Late[0].Bad != 1 {
		t.Errorf("restated %+v, by day %+v; want %+v", b.Restated, b.Late, want)
	}
}
