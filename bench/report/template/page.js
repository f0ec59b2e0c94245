// What the pointer is at, in words below the timeline. Without this the title of each shape says it.
for (const figure of document.querySelectorAll(".timeline")) {
  const words = figure.querySelector(".pointed");
  const tell = (event) => {
    const title = event.target.querySelector && event.target.querySelector("title");
    if (title) words.textContent = title.textContent;
  };
  figure.addEventListener("pointerover", tell);
  figure.addEventListener("pointerdown", tell);
}
