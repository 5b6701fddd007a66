// The most likely classes as bars that grow, shrink and change places from one prediction to the next.

const ROW = 58, BAR = 14, BAR_TOP = 26, VALUE = 64; // pixels; VALUE is the room of the number at the end of a label
const percent = d3.format(".1%");

export const readable = (name) => name.replaceAll("_", " ");

export function describe({ class: name, superclass, probability }) {
  return `${readable(name)}${superclass ? ` (${readable(superclass)})` : ""}: ${percent(probability)}`;
}

// Shortens the superclass, then the name, until both stand left of the number.
function fit(label, room) {
  const [name, superclass] = label.querySelectorAll("tspan");
  for (const [part, text] of [[name, label.__data__.class], [superclass, label.__data__.superclass ?? ""]]) {
    part.textContent = readable(text);
  }
  for (const part of [superclass, name]) {
    while (part.textContent && label.getComputedTextLength() > room) {
      part.textContent = part.textContent.replace(/.…?$/u, part.textContent.length > 2 ? "…" : "");
    }
  }
}

export class Chart {
  #svg;
  #predictions = [];
  #tooltip;
  #width; // pixels, as drawn

  constructor(container, tooltip) {
    this.#tooltip = tooltip;
    this.#svg = d3.select(container).append("svg")
      .attr("role", "list").attr("aria-label", "The most likely classes").attr("width", "100%");
    // Which also grows in height, with the first prediction, whose bars should not jump for it.
    new ResizeObserver(() => this.#svg.node().clientWidth !== this.#width && this.#draw(0)).observe(container);
    addEventListener("keydown", (event) => event.key === "Escape" && this.#hide());
  }

  show(predictions) {
    this.#predictions = predictions;
    this.#hide();
    this.#draw(matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 700);
  }

  #draw(duration) {
    const width = this.#width = this.#svg.node().clientWidth;
    const x = d3.scaleLinear().domain([0, 1]).range([0, width]);
    const transition = d3.transition().duration(duration).ease(d3.easeCubicOut);
    this.#svg.attr("height", Math.max(0, ROW * this.#predictions.length - ROW + BAR_TOP + BAR));

    const rows = this.#svg.selectAll("g.bar:not(.leaving)").data(this.#predictions, (d) => d.class);
    rows.exit().classed("leaving", true).attr("aria-hidden", true).transition(transition).style("opacity", 0).remove();
    const entering = this.#enter(rows.enter(), width);
    const all = entering.merge(rows).order()
      .attr("aria-label", describe)
      .attr("data-class", (d) => d.class)
      .attr("data-probability", (d) => d.probability);
    all.select(".track").attr("width", width);
    all.select(".value").attr("x", width);
    all.select(".label").each(function () { fit(this, width - VALUE); });
    all.transition(transition).style("opacity", 1).attr("transform", (d, i) => `translate(0,${i * ROW})`);
    all.select(".fill").classed("first", (d) => d === this.#predictions[0])
      .transition(transition).attr("width", (d) => x(d.probability));
    all.select(".value").transition(transition).tween("text", function (d) {
      const between = d3.interpolateNumber(this.shown ?? 0, d.probability);
      return (t) => { this.textContent = percent(this.shown = between(t)); };
    });
  }

  #enter(enter, width) {
    const rows = enter.append("g").attr("class", "bar").attr("role", "listitem").attr("tabindex", 0)
      .style("opacity", 0).attr("transform", (d, i) => `translate(0,${i * ROW})`);
    const label = rows.append("text").attr("class", "label").attr("y", 17);
    label.append("tspan").attr("class", "name");
    label.append("tspan").attr("class", "superclass").attr("dx", 8);
    rows.append("text").attr("class", "value").attr("y", 17).attr("text-anchor", "end");
    rows.append("rect").attr("class", "track").attr("y", BAR_TOP).attr("height", BAR).attr("rx", 3);
    rows.append("rect").attr("class", "fill").attr("y", BAR_TOP).attr("height", BAR).attr("rx", 3).attr("width", 0);
    rows.append("rect").attr("class", "target").attr("width", "100%").attr("height", ROW - 8);
    return rows.on("mouseenter focus", (d, i, nodes) => this.#explain(d, nodes[i])).on("mouseleave blur", () => this.#hide());
  }

  #explain(prediction, row) {
    const { class: name, superclass, probability } = prediction;
    const lines = [readable(name), superclass && `one of: ${readable(superclass)}`, `probability ${d3.format(".2%")(probability)}`];
    this.#tooltip.replaceChildren(...lines.filter(Boolean).map((line) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = line;
      return paragraph;
    }));
    this.#tooltip.hidden = false;
    const box = row.querySelector(".track").getBoundingClientRect(), tip = this.#tooltip.getBoundingClientRect();
    const left = Math.min(box.left + Math.max(box.width * probability, 40), innerWidth - tip.width - 8);
    this.#tooltip.style.left = `${Math.max(8, left) + scrollX}px`;
    this.#tooltip.style.top = `${box.bottom + 6 + scrollY}px`;
  }

  #hide() {
    this.#tooltip.hidden = true;
  }
}
