// Two clients for Go against a node: clients HOST:PORT [franz-retries | sarama-retries]
// With one of these words one of them alone, over connections that break before the answer.
package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

const records = 200

// An hour ago, since what is older than a topic keeps is deleted.
var began = time.Now().Add(-time.Hour).Truncate(time.Second)

// The end of all patience; each call waits no longer.
var end, _ = context.WithTimeout(context.Background(), time.Minute)

func within() context.Context { return end }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func same[T comparable](what string, wanted, got T) {
	if wanted != got {
		panic(fmt.Sprintf("%s: wanted %v, got %v", what, wanted, got))
	}
}

func say(client, what string) { fmt.Printf("%s: %s\n", client, what) }

func values(what string, count int) (values []string) {
	for at := range count {
		values = append(values, fmt.Sprintf("%s %d, and enough of it to be worth compressing", what, at))
	}
	return values
}

func main() {
	node, what := os.Args[1], ""
	if len(os.Args) > 2 {
		what = os.Args[2]
	}
	switch what {
	case "franz-retries":
		openFranz(node).retries()
	case "sarama-retries":
		openSarama(node).retries()
	default:
		franz(node)
		saramas(node)
	}
}

// retried names three topics, and tells what each is sent: numbers in turn, so wide that requests hold few.
func retried(client string) (topics []string, wanted [][]string) {
	for at := range 3 {
		topics, wanted = append(topics, fmt.Sprintf("%s-retries-%d", client, at)), append(wanted, nil)
	}
	for at := range 1200 {
		wanted[at%3] = append(wanted[at%3], fmt.Sprintf("%300d", at))
	}
	return topics, wanted
}
