package beacon

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"serin.dev/serin/internal/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// least is the smallest beacon; full has everything, an event of most kinds.
const least = `{"v":1,"app":"shop-web","release":"2.4.1","session":"01J9ABCDEF","seq":7,"sent":1764000000000}`

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// swap is the least beacon with a member in the place of another.
func swap(old, new string) string {
	if !strings.Contains(least, old) {
		panic("BUG: no " + old + " in the least beacon")
	}
	return strings.Replace(least, old, new, 1)
}

// plus is the least beacon with members behind the others.
func plus(members string) string { return strings.TrimSuffix(least, "}") + "," + members + "}" }

// events is the least beacon with events.
func events(list ...string) string { return plus(`"events":[` + strings.Join(list, ",") + `]`) }

// repeat joins n members that f makes.
func repeat(n int, f func(i int) string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = f(i)
	}
	return strings.Join(parts, ",")
}

const good = `{"k":"event","n":"ok","t":1764000000000}`

// refusals are the bodies that are refused as a whole. The name of each says
// why.
var refusals = []struct {
	name, body string
	reason     event.Reason
	field      string
}{
	{"empty", "", event.ReasonJSON, "body"},
	{"white space only", " \n\t", event.ReasonJSON, "body"},
	{"not JSON", "hello", event.ReasonJSON, "body"},
	{"form encoded", "app=shop&v=1", event.ReasonJSON, "body"},
	{"byte order mark", "\xef\xbb\xbf" + least, event.ReasonJSON, "body"},
	{"NUL", "\x00", event.ReasonJSON, "body"},
	{"NUL behind", least + "\x00", event.ReasonJSON, "body"},
	{"an array", `[` + least + `]`, event.ReasonType, "body"},
	{"null", `null`, event.ReasonType, "body"},
	{"a string", `"beacon"`, event.ReasonType, "body"},
	{"two beacons", least + least, event.ReasonJSON, "body"},
	{"a comma behind", least + ",", event.ReasonJSON, "body"},
	{"ends early", least[:len(least)-1], event.ReasonJSON, "body"},
	{"ends in a key", `{"v`, event.ReasonJSON, "body"},
	{"ends behind a key", `{"v"`, event.ReasonJSON, "body"},
	{"ends in an escape", `{"v\`, event.ReasonJSON, "body"},
	{"ends in a number", `{"v":-`, event.ReasonJSON, "body"},
	{"trailing comma in object", plus(`"x":{"a":1,}`), event.ReasonJSON, "body"},
	{"trailing comma in array", plus(`"x":[1,]`), event.ReasonJSON, "body"},
	{"leading comma", `{,"v":1}`, event.ReasonJSON, "body"},
	{"no comma", `{"v":1 "app":"x"}`, event.ReasonJSON, "body"},
	{"no colon", `{"v" 1}`, event.ReasonJSON, "body"},
	{"key without quotes", `{v:1}`, event.ReasonJSON, "body"},
	{"single quotes", `{'v':1}`, event.ReasonJSON, "body"},
	{"comment", `{/**/"v":1}`, event.ReasonJSON, "body"},
	{"NaN", events(`{"k":"metric","n":"x","t":1,"v":NaN}`), event.ReasonJSON, "body"},
	{"Infinity", events(`{"k":"metric","n":"x","t":1,"v":-Infinity}`), event.ReasonJSON, "body"},
	{"leading zero", swap(`"seq":7`, `"seq":07`), event.ReasonJSON, "body"},
	{"plus sign", swap(`"seq":7`, `"seq":+7`), event.ReasonJSON, "body"},
	{"point without digits", plus(`"x":1.`), event.ReasonJSON, "body"},
	{"no digit before the point", plus(`"x":.5`), event.ReasonJSON, "body"},
	{"exponent without digits", plus(`"x":1e+`), event.ReasonJSON, "body"},
	{"hexadecimal", plus(`"x":0x10`), event.ReasonJSON, "body"},
	{"word that begins as true", plus(`"x":trve`), event.ReasonJSON, "body"},
	{"word that goes on behind true", plus(`"x":truefalse`), event.ReasonJSON, "body"},
	{"control character in a string", plus("\"x\":\"a\nb\""), event.ReasonJSON, "body"},
	{"unknown escape", plus(`"x":"\x41"`), event.ReasonJSON, "body"},
	{"short \\u escape", plus(`"x":"\u12"`), event.ReasonJSON, "body"},
	{"\\u escape of no digits", plus(`"x":"\u12g4"`), event.ReasonJSON, "body"},
	{"lone high surrogate", plus(`"user":"\ud83d"`), event.ReasonJSON, "body"},
	{"lone low surrogate", plus(`"user":"\ude00"`), event.ReasonJSON, "body"},
	{"surrogates the wrong way round", plus(`"user":"\ude00\ud83d"`), event.ReasonJSON, "body"},
	{"high surrogate before a character", plus(`"user":"\ud83d\u0041"`), event.ReasonJSON, "body"},
	{"lone surrogate where nobody reads", plus(`"x":["\ud83d"]`), event.ReasonJSON, "body"},
	{"invalid UTF-8", plus("\"user\":\"a\xffb\""), event.ReasonJSON, "body"},
	{"cut UTF-8", plus("\"user\":\"\xe2\x82\""), event.ReasonJSON, "body"},
	{"overlong UTF-8", plus("\"user\":\"\xc0\x80\""), event.ReasonJSON, "body"},
	{"surrogate in UTF-8", plus("\"user\":\"\xed\xa0\xbd\""), event.ReasonJSON, "body"},
	{"invalid UTF-8 in a key", plus("\"x\xff\":1"), event.ReasonJSON, "body"},
	{"invalid UTF-8 where nobody reads", plus("\"x\":{\"y\":\"aaaaaaaaaaaaaaa\xff\"}"), event.ReasonJSON, "body"},
	{"broken event behind good ones", events(good, `{"k":"event"`), event.ReasonJSON, "body"},
	{"broken event behind a fault of its own", events(`{"k":"no","n":01}`), event.ReasonJSON, "body"},
	{"10 MB of white space", strings.Repeat(" ", 10<<20), event.ReasonSize, "body"},
	{"10 MB of brackets", strings.Repeat("[", 10<<20), event.ReasonSize, "body"},
	{"deep arrays", plus(`"x":` + strings.Repeat("[", event.MaxBody/2)), event.ReasonDepth, "body"},
	{"deep objects", strings.Repeat(`{"x":`, 1000), event.ReasonDepth, "body"},
	{"9 deep", plus(`"x":[[[[[[[[]]]]]]]]`), event.ReasonDepth, "body"},
	{"deep in an event", events(`{"k":"event","n":"x","t":1,"a":{"x":[[[[[]]]]]}}`), event.ReasonDepth, "body"},

	{"v missing", swap(`"v":1,`, ``), event.ReasonMissing, "v"},
	{"v unknown", swap(`"v":1`, `"v":2`), event.ReasonVersion, "v"},
	{"v a string", swap(`"v":1`, `"v":"1"`), event.ReasonType, "v"},
	{"v with a fraction", swap(`"v":1`, `"v":1.0`), event.ReasonType, "v"},
	{"app missing", swap(`"app":"shop-web",`, ``), event.ReasonMissing, "app"},
	{"app empty", swap(`"shop-web"`, `""`), event.ReasonLength, "app"},
	{"app a number", swap(`"shop-web"`, `5`), event.ReasonType, "app"},
	{"app null", swap(`"shop-web"`, `null`), event.ReasonType, "app"},
	{"app too long", swap(`shop-web`, strings.Repeat("a", event.MaxName+1)), event.ReasonLength, "app"},
	{"app too long by escapes", swap(`shop-web`, strings.Repeat(`\u20ac`, event.MaxName/3+1)), event.ReasonLength, "app"},
	{"app not printable", swap(`shop-web`, strings.Repeat(`\u202e\u0000é`, 60)), event.ReasonLength, "app"},
	{"release missing", swap(`"release":"2.4.1",`, ``), event.ReasonMissing, "release"},
	{"release empty", swap(`"2.4.1"`, `""`), event.ReasonLength, "release"},
	{"release a number", swap(`"2.4.1"`, `2.4`), event.ReasonType, "release"},
	{"release too long", swap(`2.4.1`, strings.Repeat("1", event.MaxName+1)), event.ReasonLength, "release"},
	{"session missing", swap(`"session":"01J9ABCDEF",`, ``), event.ReasonMissing, "session"},
	{"session too short", swap(`01J9ABCDEF`, `1234567`), event.ReasonLength, "session"},
	{"session too long", swap(`01J9ABCDEF`, strings.Repeat("a", event.MaxSession+1)), event.ReasonLength, "session"},
	{"session with a space", swap(`01J9ABCDEF`, `01J9 ABCDEF`), event.ReasonType, "session"},
	{"session not ASCII", swap(`01J9ABCDEF`, `01J9ABCDÉF`), event.ReasonType, "session"},
	{"session with an escaped newline", swap(`01J9ABCDEF`, `01J9ABCD\nEF`), event.ReasonType, "session"},
	{"session an object", swap(`"01J9ABCDEF"`, `{"id":"01J9ABCDEF"}`), event.ReasonType, "session"},
	{"seq missing", swap(`"seq":7,`, ``), event.ReasonMissing, "seq"},
	{"seq negative", swap(`"seq":7`, `"seq":-1`), event.ReasonRange, "seq"},
	{"seq fractional", swap(`"seq":7`, `"seq":7.5`), event.ReasonType, "seq"},
	{"seq with an exponent", swap(`"seq":7`, `"seq":7e0`), event.ReasonType, "seq"},
	{"seq over uint32", swap(`"seq":7`, `"seq":4294967296`), event.ReasonRange, "seq"},
	{"seq over int64", swap(`"seq":7`, `"seq":18446744073709551617`), event.ReasonRange, "seq"},
	{"seq a string", swap(`"seq":7`, `"seq":"7"`), event.ReasonType, "seq"},
	{"seq huge", swap(`"seq":7`, `"seq":1e999`), event.ReasonType, "seq"},
	{"sent missing", swap(`,"sent":1764000000000`, ``), event.ReasonMissing, "sent"},
	{"sent a date", swap(`1764000000000`, `"2025-11-24T16:00:00Z"`), event.ReasonType, "sent"},
	{"sent fractional", swap(`1764000000000`, `1764000000000.5`), event.ReasonType, "sent"},
	{"sent negative", swap(`1764000000000`, `-1`), event.ReasonClock, "sent"},
	{"sent in nanoseconds", swap(`1764000000000`, `1764000000000000000`), event.ReasonClock, "sent"},
	{"sent null", swap(`1764000000000`, `null`), event.ReasonType, "sent"},
	{"sdk a number", plus(`"sdk":1`), event.ReasonType, "sdk"},
	{"sdk too long", plus(`"sdk":"` + strings.Repeat("s", event.MaxName+1) + `"`), event.ReasonLength, "sdk"},
	{"tenancy unknown", plus(`"tenancy":"staging"`), event.ReasonName, "tenancy"},
	{"tenancy in capitals", plus(`"tenancy":"Production"`), event.ReasonName, "tenancy"},
	{"tenancy empty", plus(`"tenancy":""`), event.ReasonName, "tenancy"},
	{"tenancy a number", plus(`"tenancy":1`), event.ReasonType, "tenancy"},
	{"user too long", plus(`"user":"` + strings.Repeat("u", event.MaxSession+1) + `"`), event.ReasonLength, "user"},
	{"user null", plus(`"user":null`), event.ReasonType, "user"},
	{"arms an array", plus(`"arms":["canary"]`), event.ReasonType, "arms"},
	{"arm a boolean", plus(`"arms":{"flag/x":true}`), event.ReasonType, "arms.flag/x"},
	{"arm empty", plus(`"arms":{"flag/x":""}`), event.ReasonLength, "arms.flag/x"},
	{"arm too long", plus(`"arms":{"flag/x":"` + strings.Repeat("a", event.MaxName+1) + `"}`), event.ReasonLength, "arms.flag/x"},
	{"change empty", plus(`"arms":{"":"on"}`), event.ReasonLength, "arms"},
	{"change too long", plus(`"arms":{"` + strings.Repeat("c", event.MaxName+1) + `":"on"}`), event.ReasonLength, "arms"},
	{"change twice", plus(`"arms":{"flag/x":"on","flag\/x":"off"}`), event.ReasonDupKey, "arms.flag/x"},
	{"17 arms", plus(`"arms":{` + repeat(event.MaxArms+1, func(i int) string { return fmt.Sprintf(`"flag/%d":"on"`, i) }) + `}`), event.ReasonCount, "arms"},
	{"ctx a string", plus(`"ctx":"web"`), event.ReasonType, "ctx"},
	{"ctx field a number", plus(`"ctx":{"os":15}`), event.ReasonType, "ctx.os"},
	{"ctx field too long", plus(`"ctx":{"browser":"` + strings.Repeat("b", event.MaxText+1) + `"}`), event.ReasonLength, "ctx.browser"},
	{"page too long", plus(`"ctx":{"page":"/` + strings.Repeat("p", event.MaxText) + `"}`), event.ReasonLength, "ctx.page"},
	{"ctx key twice", plus(`"ctx":{"os":"a","os":"a"}`), event.ReasonDupKey, "ctx.os"},
	{"key twice", plus(`"seq":8`), event.ReasonDupKey, "seq"},
	{"key twice by an escape", plus(`"s\u0065q":8`), event.ReasonDupKey, "seq"},
	{"events twice", plus(`"events":[],"events":[]`), event.ReasonDupKey, "events"},
	{"events an object", plus(`"events":{}`), event.ReasonType, "events"},
	{"201 events", plus(`"events":[` + repeat(event.MaxEvents+1, func(int) string { return good }) + `]`), event.ReasonCount, "events"},
	{"201 events at fault", plus(`"events":[` + repeat(event.MaxEvents+1, func(int) string { return "1" }) + `]`), event.ReasonCount, "events"},
	{"drops an array", plus(`"drops":[]`), event.ReasonType, "drops"},
	{"drop a string", plus(`"drops":{"vital/sampled":"3"}`), event.ReasonType, "drops.vital/sampled"},
	{"drop of none", plus(`"drops":{"vital/sampled":0}`), event.ReasonRange, "drops.vital/sampled"},
	{"drop of half", plus(`"drops":{"vital/sampled":0.5}`), event.ReasonType, "drops.vital/sampled"},
	{"drop cause twice", plus(`"drops":{"a":1,"a":1}`), event.ReasonDupKey, "drops.a"},
	{"drop cause empty", plus(`"drops":{"":1}`), event.ReasonLength, "drops"},
	{"65 drops", plus(`"drops":{` + repeat(event.MaxDrops+1, func(i int) string { return fmt.Sprintf(`"%d":1`, i) }) + `}`), event.ReasonCount, "drops"},
}

// rejections are the events that are left out while the beacon is kept.
var rejections = []struct {
	name, body string
	reason     event.Reason
	field      string // behind events[1]
}{
	{"not an object", `"vital"`, event.ReasonType, ""},
	{"null", `null`, event.ReasonType, ""},
	{"empty object", `{}`, event.ReasonMissing, ".k"},
	{"kind unknown", `{"k":"trace","n":"x","t":1}`, event.ReasonKind, ".k"},
	{"kind empty", `{"k":"","n":"x","t":1}`, event.ReasonKind, ".k"},
	{"kind a number", `{"k":2,"n":"x","t":1}`, event.ReasonType, ".k"},
	{"name missing", `{"k":"event","t":1}`, event.ReasonMissing, ".n"},
	{"name empty", `{"k":"event","n":"","t":1}`, event.ReasonLength, ".n"},
	{"name a number", `{"k":"event","n":1,"t":1}`, event.ReasonType, ".n"},
	{"name too long", `{"k":"event","n":"` + strings.Repeat("n", event.MaxName+1) + `","t":1}`, event.ReasonLength, ".n"},
	{"time missing", `{"k":"event","n":"x"}`, event.ReasonMissing, ".t"},
	{"time a string", `{"k":"event","n":"x","t":"now"}`, event.ReasonType, ".t"},
	{"time fractional", `{"k":"event","n":"x","t":1764000000000.25}`, event.ReasonType, ".t"},
	{"time negative", `{"k":"event","n":"x","t":-1}`, event.ReasonClock, ".t"},
	{"time in nanoseconds", `{"k":"event","n":"x","t":1764000000000000000}`, event.ReasonClock, ".t"},
	{"value a string", `{"k":"metric","n":"x","t":1,"v":"5"}`, event.ReasonType, ".v"},
	{"value null", `{"k":"metric","n":"x","t":1,"v":null}`, event.ReasonType, ".v"},
	{"value infinite", `{"k":"metric","n":"x","t":1,"v":1e999}`, event.ReasonRange, ".v"},
	{"value minus infinite", `{"k":"metric","n":"x","t":1,"v":-1e999}`, event.ReasonRange, ".v"},
	{"value over the magnitude", `{"k":"metric","n":"x","t":1,"v":1000000000000001}`, event.ReasonRange, ".v"},
	{"value of a thousand digits", `{"k":"metric","n":"x","t":1,"v":0.` + strings.Repeat("1", 1000) + `}`, event.ReasonRange, ".v"},
	{"vital unknown", `{"k":"vital","n":"XYZ","t":1,"v":1}`, event.ReasonName, ".n"},
	{"vital in lower case", `{"k":"vital","n":"lcp","t":1,"v":1}`, event.ReasonName, ".n"},
	{"vital without value", `{"k":"vital","n":"LCP","t":1}`, event.ReasonMissing, ".v"},
	{"vital negative", `{"k":"vital","n":"LCP","t":1,"v":-0.5}`, event.ReasonRange, ".v"},
	{"layout shift negative", `{"k":"vital","n":"CLS","t":1,"v":-0.1}`, event.ReasonRange, ".v"},
	{"vital in seconds", `{"k":"vital","n":"LCP","t":1,"v":2.3,"u":"s"}`, event.ReasonName, ".u"},
	{"layout shift with a unit", `{"k":"vital","n":"CLS","t":1,"v":0.1,"u":"ms"}`, event.ReasonName, ".u"},
	{"request negative", `{"k":"request","n":"GET /","t":1,"v":-1}`, event.ReasonRange, ".v"},
	{"long task negative", `{"k":"longtask","n":"x","t":1,"v":-1}`, event.ReasonRange, ".v"},
	{"start negative", `{"k":"start","n":"cold","t":1,"v":-1}`, event.ReasonRange, ".v"},
	{"resource negative", `{"k":"resource","n":"img","t":1,"v":-1e-300}`, event.ReasonRange, ".v"},
	{"exposure without attributes", `{"k":"exposure","n":"release/2","t":1}`, event.ReasonMissing, ".a.arm"},
	{"exposure with a null arm", `{"k":"exposure","n":"release/2","t":1,"a":{"arm":null}}`, event.ReasonMissing, ".a.arm"},
	{"exposure with an empty arm", `{"k":"exposure","n":"release/2","t":1,"a":{"arm":""}}`, event.ReasonLength, ".a.arm"},
	{"exposure with a number for an arm", `{"k":"exposure","n":"release/2","t":1,"a":{"arm":1}}`, event.ReasonType, ".a.arm"},
	{"exposure with a long arm", `{"k":"exposure","n":"release/2","t":1,"a":{"arm":"` + strings.Repeat("a", event.MaxName+1) + `"}}`, event.ReasonLength, ".a.arm"},
	{"message too long", `{"k":"error","n":"E","t":1,"m":"` + strings.Repeat("m", event.MaxMessage+1) + `"}`, event.ReasonLength, ".m"},
	{"message an object", `{"k":"error","n":"E","t":1,"m":{}}`, event.ReasonType, ".m"},
	{"stack too long", `{"k":"error","n":"E","t":1,"s":"` + strings.Repeat(`\n`, event.MaxStack+1) + `"}`, event.ReasonLength, ".s"},
	{"stack an array", `{"k":"error","n":"E","t":1,"s":["a","b"]}`, event.ReasonType, ".s"},
	{"unit too long", `{"k":"metric","n":"x","t":1,"v":1,"u":"` + strings.Repeat("u", event.MaxUnit+1) + `"}`, event.ReasonLength, ".u"},
	{"attributes an array", `{"k":"event","n":"x","t":1,"a":[1]}`, event.ReasonType, ".a"},
	{"attributes null", `{"k":"event","n":"x","t":1,"a":null}`, event.ReasonType, ".a"},
	{"attribute an object", `{"k":"event","n":"x","t":1,"a":{"y":{"z":1}}}`, event.ReasonType, ".a.y"},
	{"attribute an array", `{"k":"event","n":"x","t":1,"a":{"y":[]}}`, event.ReasonType, ".a.y"},
	{"attribute too long", `{"k":"event","n":"x","t":1,"a":{"y":"` + strings.Repeat("y", event.MaxText+1) + `"}}`, event.ReasonLength, ".a.y"},
	{"attribute infinite", `{"k":"event","n":"x","t":1,"a":{"y":1e400}}`, event.ReasonRange, ".a.y"},
	{"attribute key empty", `{"k":"event","n":"x","t":1,"a":{"":1}}`, event.ReasonLength, ".a"},
	{"attribute key too long", `{"k":"event","n":"x","t":1,"a":{"` + strings.Repeat("k", event.MaxName+1) + `":1}}`, event.ReasonLength, ".a"},
	{"attribute key not printable", `{"k":"event","n":"x","t":1,"a":{"\u001b[31m":[]}}`, event.ReasonType, ".a.?[31m"},
	{"attribute twice", `{"k":"event","n":"x","t":1,"a":{"y":1,"y":1}}`, event.ReasonDupKey, ".a.y"},
	{"attribute twice, once null", `{"k":"event","n":"x","t":1,"a":{"y":null,"y":1}}`, event.ReasonDupKey, ".a.y"},
	{"33 attributes", `{"k":"event","n":"x","t":1,"a":{` + repeat(event.MaxAttrs+1, func(i int) string { return fmt.Sprintf(`"%d":1`, i) }) + `}}`, event.ReasonCount, ".a"},
	{"key twice", `{"k":"event","n":"x","t":1,"n":"x"}`, event.ReasonDupKey, ".n"},
	{"two faults, the first is told", `{"k":"event","n":1,"t":"x","a":[]}`, event.ReasonType, ".n"},
}

func TestRefusals(t *testing.T) {
	var d Decoder
	var golden strings.Builder
	golden.WriteString("The texts of errors are read by people who write SDKs: a change to one is seen here. Rewrite with -update.\n")
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			var b event.Beacon
			rejected, err := d.Decode([]byte(c.body), &b)
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, ErrMalformed) {
				t.Fatalf("error is %v, rejected %v; want an *Error", err, rejected)
			}
			if e.Reason != c.reason || e.Field != c.field {
				t.Errorf("refused for %s at %s (%v), want %s at %s", e.Reason, e.Field, e, c.reason, c.field)
			}
			fit(t, e.Value)
			if b.App != "" || len(b.Events) != 0 || rejected != nil {
				t.Errorf("something is left of a beacon that is refused: %+v, %v", b, rejected)
			}
			fmt.Fprintf(&golden, "%s | %s | %v\n", c.name, e.Reason, e)
		})
	}
	compare(t, "testdata/refusals.golden", golden.String(), len(refusals))
}

func TestRejections(t *testing.T) {
	var d Decoder
	var golden strings.Builder
	golden.WriteString("What is said of rejected events is read by people who write SDKs: a change is seen here. Rewrite with -update.\n")
	for _, c := range rejections {
		t.Run(c.name, func(t *testing.T) {
			var b event.Beacon
			rejected, err := d.Decode([]byte(events(good, c.body, good)), &b)
			if err != nil {
				t.Fatal(err)
			}
			if len(rejected) != 1 || len(b.Events) != 2 {
				t.Fatalf("kept %d events and rejected %v, want 2 and 1", len(b.Events), rejected)
			}
			r := rejected[0]
			if want := "events[1]" + c.field; r.Index != 1 || r.Reason != c.reason || r.Field != want {
				t.Errorf("rejected %+v, want %s at %s", r, c.reason, want)
			}
			fit(t, r.Value)
			fmt.Fprintf(&golden, "%s | %s | %s: %q: want %s\n", c.name, r.Reason, r.Field, r.Value, r.Want)
		})
	}
	compare(t, "testdata/rejections.golden", golden.String(), len(rejections))
}

// fit checks that a value may be repeated in an answer.
func fit(t *testing.T, value string) {
	t.Helper()
	if len(value) > maxShown || !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == '\u202e' }) {
		t.Errorf("value %q is not fit to be shown", value)
	}
}

// compare compares with a golden file of a line at the top and one per case.
// It does not if cases failed or -run left some out.
func compare(t *testing.T, path, got string, cases int) {
	t.Helper()
	if t.Failed() || strings.Count(got, "\n") != cases+1 {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Split(string(read(t, path)), "\n")
	lines := strings.Split(got, "\n")
	for i, line := range lines {
		if i >= len(want) || want[i] != line {
			t.Fatalf("%s: line %d is not as it was:\n%s", path, i+1, line)
		}
	}
	if len(want) > len(lines) {
		t.Fatalf("%s has %d lines, and now there are %d", path, len(want), len(lines))
	}
}

func TestSDKRecordings(t *testing.T) {
	paths, err := filepath.Glob("testdata/sdk/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("testdata/sdk has no recording: the tests of sdk-js write them, so that a drift of the wire fails on both sides")
	}
	var d Decoder
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var b event.Beacon
			rejected, err := d.Decode(read(t, path), &b)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rejected {
				t.Errorf("rejected %s: %s: %q: want %s", r.Reason, r.Field, r.Value, r.Want)
			}
		})
	}
}
