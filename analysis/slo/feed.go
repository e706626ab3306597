package slo

// Feed is what is known of one minute where there are numbers and no rows, as a
// test of alerts has them.
type Feed struct {
	Group string // value of the grouping column; used where the objective has one
	At    int32  // minute
	Total int64  // units
	Bad   int64  // of them
	// Clients is how many have the bad ones, the same ones in each minute; 0: each one
	// has a client of its own.
	Clients  int64
	Sessions int64 // of the app
}

// Feed counts numbers as if their rows had been received in their minute.
func (b *Book) Feed(f Feed) {
	if len(b.Cohorts) == 0 {
		b.Cohorts = append(b.Cohorts, &Cohort{Release: Unknown})
	}
	group := -1
	if b.Objective.GroupBy != "" {
		group = b.group(f.Group)
		b.Groups[group].Sessions.Add(f.At, Counts{Total: f.Sessions})
	}
	b.All.Sessions.Add(f.At, Counts{Total: f.Sessions})
	received := int64(f.At) * 60_000
	b.count(0, group, f.At, received, Counts{Total: f.Total - f.Bad})
	for i := range f.Bad {
		client := uint64(f.At)<<32 | uint64(i)
		if f.Clients > 0 {
			client = uint64(i % f.Clients)
		}
		b.event(client, 0, group, f.At, received, true)
	}
}
