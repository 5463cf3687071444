SELECT
    answer ->> 'model' AS model,
    count(*) AS answers,
    sum((answer -> 'usage' ->> 'cost')::numeric) AS cost
FROM answers
GROUP BY 1;
