package beacon

import (
	"encoding/json"
	"testing"

	"serin.dev/serin/internal/event"
)

// plainBeacon is what one would write with encoding/json, without limits,
// without the checks and without the answers to single events.
type plainBeacon struct {
	V       int               `json:"v"`
	SDK     string            `json:"sdk"`
	App     string            `json:"app"`
	Release string            `json:"release"`
	Tenancy string            `json:"tenancy"`
	Session string            `json:"session"`
	User    string            `json:"user"`
	Seq     uint32            `json:"seq"`
	Sent    int64             `json:"sent"`
	Arms    map[string]string `json:"arms"`
	Ctx     struct {
		Platform string `json:"platform"`
		OS       string `json:"os"`
		Browser  string `json:"browser"`
		Device   string `json:"device"`
		Network  string `json:"network"`
		Page     string `json:"page"`
	} `json:"ctx"`
	Events []struct {
		K string         `json:"k"`
		N string         `json:"n"`
		T int64          `json:"t"`
		V *float64       `json:"v"`
		M string         `json:"m"`
		S string         `json:"s"`
		U string         `json:"u"`
		A map[string]any `json:"a"`
	} `json:"events"`
	Drops map[string]int64 `json:"drops"`
}

// BenchmarkDecode reads a beacon of 10 events, by this package and by
// encoding/json into a struct, in one run so that the two can be compared.
func BenchmarkDecode(b *testing.B) {
	body := read(b, "testdata/hand/ten.json")
	b.Run("beacon", func(b *testing.B) {
		var d Decoder
		var into event.Beacon
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if rejected, err := d.Decode(body, &into); err != nil || len(rejected) > 0 || len(into.Events) != 10 {
				b.Fatal(rejected, err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var into plainBeacon
			if err := json.Unmarshal(body, &into); err != nil || len(into.Events) != 10 {
				b.Fatal(err)
			}
		}
	})
}
