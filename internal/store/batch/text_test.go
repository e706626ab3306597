package batch

import (
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"serin.dev/serin/internal/event"
)

func TestArmsText(t *testing.T) {
	for want, arms := range map[string][]event.Arm{
		"":                  nil,
		"a=b":               {{Change: "a", Variant: "b"}},
		"=":                 {{}},
		"a=1;b=2":           {{Change: "b", Variant: "2"}, {Change: "a", Variant: "1"}},
		"%25%3D%3B%253B=##": {{Change: "%=;%3B", Variant: "##"}},
	} {
		if got := ArmsText(arms); got != want {
			t.Errorf("%v: %q, want %q", arms, got, want)
		}
	}
}

func TestAttrsText(t *testing.T) {
	for want, attrs := range map[string][]event.Attr{
		"":               nil,
		"=":              {{}},
		"k=#1;k=1;k=##1": {{Key: "k", Number: 1, Num: true}, {Key: "k", Text: "1"}, {Key: "k", Text: "#1"}},
		"k=###":          {{Key: "k", Text: "##"}},
		"#=##":           {{Key: "#", Text: "#"}},
		"a%3Db=%3B%25":   {{Key: "a=b", Text: ";%"}},
		"n=#-0;m=#1e+15": {{Key: "n", Number: negZero, Num: true}, {Key: "m", Number: 1e15, Num: true}},
	} {
		if got := AttrsText(attrs); got != want {
			t.Errorf("%v: %q, want %q", attrs, got, want)
		}
	}
}

var negZero = math.Copysign(0, -1)

func TestTextsReadBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		b := random(r)
		arms := ParseArms(ArmsText(b.Arms))
		less := func(x, y event.Arm) int { return strings.Compare(ArmsText([]event.Arm{x}), ArmsText([]event.Arm{y})) }
		slices.SortFunc(b.Arms, less)
		if !reflect.DeepEqual(arms, b.Arms) {
			t.Fatalf("%+v, want %+v", arms, b.Arms)
		}
		for i := range b.Events {
			want := b.Events[i].Attrs
			if got := ParseAttrs(AttrsText(want)); !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v, want %+v", got, want)
			}
		}
	}
}

func TestArmsTextDoesNotDependOnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for range 1000 {
		b := random(r)
		want := ArmsText(b.Arms)
		r.Shuffle(len(b.Arms), func(i, j int) { b.Arms[i], b.Arms[j] = b.Arms[j], b.Arms[i] })
		if got := ArmsText(b.Arms); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func TestEveryColumnIsInTheDocument(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/formats/batch.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Schema.Fields() {
		if !strings.Contains(string(doc), "\n| `"+f.Name+"` |") {
			t.Errorf("column %s is not in docs/formats/batch.md", f.Name)
		}
	}
}
